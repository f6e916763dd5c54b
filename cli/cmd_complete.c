/* cmd_complete.c: quern __complete SHELL: completion scripts out of the command tables, made at build time. */
#include "base/err.h"
#include "cli/commands.h"
#include <string.h>

typedef void (*each_option)(const qn_command *c, const qn_option *o);

static void for_options(const qn_command *c, each_option fn)
{
    for (unsigned i = 0; i < c->options.n; i++)
        fn(c, &c->options.rows[i]);
    for (unsigned i = 0; c->lossy_options && i < c->lossy_options->n; i++)
        fn(c, &c->lossy_options->rows[i]);
    for (unsigned i = 0; i < qn_common_options.n; i++)
        fn(c, &qn_common_options.rows[i]);
}

static void choices(const qn_option *o, const char *before, const char *between)
{
    for (unsigned i = 0; o->choices[i]; i++)
        printf("%s%s", i ? between : before, o->choices[i]);
}

static void command_names(const char *between)
{
    const char *sep = "";
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("%s%s", sep, (*c)->name);
            sep = between;
        }
}

/* ---- bash ---- */

static void bash_word(const qn_command *c, const qn_option *o)
{
    (void)c;
    printf(" --%s%s", o->name, o->arg && !o->implied ? "=" : "");
    if (o->implied && o->type == QN_OPT_CHOICE)
        for (unsigned i = 0; o->choices[i]; i++)
            printf(" --%s=%s", o->name, o->choices[i]);
    if (o->letter)
        printf(" -%c", o->letter);
}

/* What may follow `--name` or `--name=`, by the word before. */
static void bash_value(const qn_command *c, const qn_option *o)
{
    if (!o->arg)
        return;
    printf("        %s:--%s", c->name, o->name);
    if (o->letter)
        printf("|%s:-%c", c->name, o->letter);
    if (o->type == QN_OPT_CHOICE) {
        choices(o, ") COMPREPLY=($(compgen -W '", " ");
        puts("' -- \"$cur\")); return ;;");
    } else if (o->type == QN_OPT_PATH) {
        puts(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;");
    } else {
        puts(") return ;;");
    }
}

static void bash(void)
{
    puts("# bash completion for quern; generated from its option tables\n_quern() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]}\n"
         "    COMPREPLY=()\n"
         "    if ((COMP_CWORD == 1)); then");
    fputs("        COMPREPLY=($(compgen -W '", stdout);
    command_names(" ");
    puts(" --help --version' -- \"$cur\"))\n        return\n    fi\n"
         "    # bash splits words at '='\n"
         "    if [[ $cur == '=' ]]; then cur=; elif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
         "    compopt -o filenames 2>/dev/null\n"
         "    case $cmd:$prev in");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden)
            for_options(*c, bash_value);
    puts("    esac\n    if [[ $cur != -* ]]; then");
    fputs("        if [[ $cmd == help ]]; then COMPREPLY=($(compgen -W '", stdout);
    command_names(" ");
    puts("' -- \"$cur\")); else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n        return\n    fi\n    case $cmd in");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("        %s) COMPREPLY=($(compgen -W '", (*c)->name);
            for_options(*c, bash_word);
            puts("' -- \"$cur\")) ;;");
        }
    puts("    esac\n    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null\n}\ncomplete -F _quern quern");
}

/* ---- zsh ---- */

/* For single quotes and [explanations]: the characters that end either are escaped. */
static void zsh_text(const char *s)
{
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *s))
            printf("\\%c", *s);
        else
            putchar(*s);
}

static void zsh_option(const qn_command *c, const qn_option *o)
{
    (void)c;
    const char *const joined = !o->arg ? "" : o->implied ? "=-" : "=";
    const char *const repeat = o->type == QN_OPT_TEXTS ? "*" : "";
    if (o->letter && !*repeat)
        printf("            '(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter, o->arg ? "+" : "", o->name,
               joined);
    else
        printf("            '%s--%s%s[", repeat, o->name, joined);
    zsh_text(o->help);
    putchar(']');
    if (o->arg) {
        printf("%s:%s:", o->implied ? ":" : "", o->arg);
        if (o->type == QN_OPT_CHOICE) {
            choices(o, "(", " ");
            putchar(')');
        } else if (o->type == QN_OPT_PATH)
            fputs("_files", stdout);
        else
            putchar(' ');
    }
    puts("' \\");
}

static void zsh(void)
{
    puts("#compdef quern\n# generated from quern's option tables\n_quern() {\n    local -a commands\n    commands=(");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("        '%s:", (*c)->name);
            zsh_text((*c)->summary);
            puts("'");
        }
    puts("    )\n    if ((CURRENT == 2)); then\n        _describe -t commands 'quern command' commands\n        return\n    fi\n"
         "    local command=$words[2]\n    words=(\"quern $command\" \"${(@)words[3,-1]}\")\n    ((CURRENT -= 1))\n"
         "    case $command in");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("        %s)\n            _arguments -s -S \\\n", (*c)->name);
            for_options(*c, zsh_option);
            puts((*c)->operand ? "            '*:checkpoint:_files' ;;"
                 : (*c)->max_operands ? "            '1:command:{_describe command commands}' ;;"
                                      : "            && return ;;");
        }
    puts("    esac\n}\n_quern \"$@\"");
}

/* ---- fish ---- */

static void fish_text(const char *s)
{
    for (; *s; s++)
        if (*s == '\'' || *s == '\\')
            printf("\\%c", *s);
        else
            putchar(*s);
}

static void fish_option(const qn_command *c, const qn_option *o)
{
    printf("complete -c quern -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter)
        printf(" -s %c", o->letter);
    if (o->arg && !o->implied)
        fputs(o->type == QN_OPT_PATH ? " -r -F" : " -x", stdout);
    if (o->type == QN_OPT_CHOICE) {
        choices(o, " -a '", " ");
        putchar('\'');
    }
    fputs(" -d '", stdout);
    fish_text(o->help);
    puts("'");
}

static void fish(void)
{
    puts("# fish completion for quern; generated from its option tables");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("complete -c quern -f -n __fish_use_subcommand -a %s -d '", (*c)->name);
            fish_text((*c)->summary);
            puts("'");
            for_options(*c, fish_option);
        }
}

static const struct {
    const char *name;
    void (*print)(void);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    (void)args;
    for (unsigned i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(cli->operands.items[0], shells[i].name) == 0) {
            shells[i].print();
            return QN_OK;
        }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "__complete: bash, zsh or fish");
}

const qn_command qn_cmd_complete = {
    .name = "__complete",
    .summary = "print a completion script",
    .synopsis = "bash|zsh|fish",
    .description = "Prints the completion script for a shell.",
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the shell",
    .args_bytes = sizeof(qn_common),
    .hidden = true,
    .run = run,
};
