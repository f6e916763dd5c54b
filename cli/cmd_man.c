/* cmd_man.c: quern __man [COMMAND]: man pages out of the command tables, made at build time. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/help.h"
#include <string.h>

/* Text for troff: backslashes and dashes keep their meaning, and no line begins with a request. */
static void troff(const char *s)
{
    for (bool start = true; *s; s++) {
        if (start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else if (strncmp(s, "\xe2\x80\xa6", 3) == 0) { /* … */
            fputs("\\&...", stdout);
            s += 2;
        } else
            fputc(*s, stdout);
        start = *s == '\n';
    }
}

/* A line of running text; empty lines begin paragraphs. */
static void paragraphs(const char *s)
{
    for (const char *gap = strstr(s, "\n\n"); gap; gap = strstr(s, "\n\n")) {
        char part[1600];
        snprintf(part, sizeof part, "%.*s", (int)(gap - s), s);
        troff(part);
        puts("\n.PP");
        s = gap + 2;
    }
    troff(s);
    putchar('\n');
}

static void item(const char *term, const char *text)
{
    fputs(".TP\n\\fB", stdout);
    troff(term);
    fputs("\\fR\n", stdout);
    troff(text);
    putchar('\n');
}

static void title(const char *name, const char *command)
{
    printf(".TH \"%s\" \"1\" \"\" \"quern %s\" \"User Commands\"\n.SH NAME\n", name, qn_version());
    troff(name);
    printf(" \\- %s\n.SH SYNOPSIS\n.B quern", command ? command : "pack neural\\-network checkpoints without loss");
    putchar('\n');
}

static void options(const qn_option_table *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        char spelling[80], text[600];
        qn_option_spelling(&t->rows[i], spelling, sizeof spelling);
        qn_help_option_text(&t->rows[i], text, sizeof text);
        item(spelling, text);
    }
}

static void examples(const qn_example *e)
{
    puts(".SH EXAMPLES");
    for (; e->line; e++)
        item(e->line, e->meaning);
}

static void exits(void)
{
    puts(".SH EXIT STATUS");
    for (const qn_exit *e = qn_exits; e->meaning; e++) {
        char code[8];
        snprintf(code, sizeof code, "%d", e->code);
        item(code, e->meaning);
    }
}

static void environment(void)
{
    puts(".SH ENVIRONMENT");
    item("QUERN_CPU", "scalar, avx2 or avx512: use no newer instructions than these; the output is the same with each");
    item("NO_COLOR", "when set and not empty, no colour unless --color=always is given");
    item("COLUMNS", "the width of tables on a terminal, when it differs from the terminal's own");
}

static void command_page(const qn_command *c)
{
    char name[64], upper[64];
    snprintf(name, sizeof name, "quern-%s", c->name);
    snprintf(upper, sizeof upper, "%s", c->summary);
    title(name, upper);
    printf(".B %s\n", c->name);
    troff(c->synopsis);
    puts("\n.SH DESCRIPTION");
    paragraphs(c->description);
    if (c->max_operands && strcmp(c->name, "help") != 0) {
        puts(".PP");
        paragraphs(qn_help_checkpoints);
    }
    puts(".SH OPTIONS");
    options(&c->options);
    if (c->lossy_options) {
        puts(".SS Options of approximation");
        options(c->lossy_options);
    }
    puts(".SS Options of every command");
    options(&qn_common_options);
    if (c->json) {
        puts(".SH JSON OUTPUT\nWith\n.B \\-\\-json\none object is printed on standard output. Besides\n.I schema\nand\n"
             ".I version\nit has these keys; sizes are in bytes. New keys may be added; the number in\n.I schema\n"
             "changes when one changes its meaning or goes away.");
        for (const qn_json_key *k = c->json; k->key; k++)
            item(k->key, k->meaning);
    }
    exits();
    environment();
    if (c->examples)
        examples(c->examples);
    puts(".SH SEE ALSO\n.BR quern (1)");
}

static void overview_page(void)
{
    title("quern", NULL);
    puts(".I COMMAND\n.I INPUT\n.RB [ \\-o\n.IR OUTPUT ]\n[options]\n.SH DESCRIPTION");
    paragraphs("quern makes neural-network checkpoints smaller and proves what it did. A packed file (.quern) gives back "
               "the original, bit for bit: every tensor, header and file of a model folder.");
    puts(".PP");
    paragraphs(qn_help_checkpoints);
    puts(".PP");
    paragraphs("quern reads and writes the files that are named and nothing else: no network, no settings files. An output "
               "is written under another name beside its place and renamed when it is complete and has been read back, "
               "so a run that was stopped or killed leaves no half output under the final name.");
    puts(".SH COMMANDS");
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden)
            item((*c)->name, (*c)->summary);
    puts(".SH OPTIONS\nThese are understood by every command; the commands' own are in their pages.");
    options(&qn_common_options);
    exits();
    environment();
    fputs(".SH SEE ALSO\n", stdout);
    const char *comma = "";
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden) {
            printf("%s.BR quern\\-%s (1)", comma, (*c)->name);
            comma = " ,\n";
        }
    putchar('\n');
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    (void)args;
    if (cli->operands.n == 0) {
        overview_page();
        return QN_OK;
    }
    const qn_command *c = qn_command_find(cli->operands.items[0]);
    if (!c)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no such command");
    command_page(c);
    return QN_OK;
}

const qn_command qn_cmd_man = {
    .name = "__man",
    .summary = "print a man page",
    .synopsis = "[COMMAND]",
    .description = "Prints the man page of a command, or the overview.",
    .max_operands = 1,
    .args_bytes = sizeof(qn_common),
    .hidden = true,
    .run = run,
};
