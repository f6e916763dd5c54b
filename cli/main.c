/* main.c: finds the command, parses its line, runs it, and turns what it returns into one line and an exit code. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/signals.h"
#include "cli/suggest.h"
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double qn_cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void qn_cli_note(qn_cli *cli, const char *fmt, ...)
{
    char raw[900], line[1000];
    if (cli->common->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    qn_printable(line, sizeof line, raw, strlen(raw));
    qn_progress_clear(&cli->progress);
    fprintf(stderr, "quern: %s\n", line);
}

static qn_code set_up(qn_cli *cli, qn_err *err)
{
    const qn_common *c = cli->common;
    QN_TRY(qn_env_init(&cli->env, err));
    if (c->threads)
        cli->env.n_threads = (unsigned)c->threads;
    cli->env.memory_bytes = c->memory;
    cli->env.cancel = qn_signals_flag();
    cli->out = qn_term_of(stdout, (qn_color)c->color);
    cli->err = qn_term_of(stderr, (qn_color)c->color);
    qn_progress_init(&cli->progress, &cli->err, c->progress, c->quiet);
    cli->env.progress = qn_progress_update;
    cli->env.progress_ctx = &cli->progress;
    return QN_OK;
}

static qn_code check_operands(qn_cli *cli, qn_err *err)
{
    const qn_command *c = cli->command;
    const unsigned n = cli->operands.n;
    if (n >= c->min_operands && n <= c->max_operands)
        return QN_OK;
    qn_hint_set(&cli->hint, "quern %s %s", c->name, c->synopsis);
    if (n < c->min_operands)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: %s is missing", c->name, c->operand);
    char shown[160];
    qn_printable(shown, sizeof shown, cli->operands.items[c->max_operands], strlen(cli->operands.items[c->max_operands]));
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: '%s' is one argument too many", c->name, shown);
}

static qn_code run_command(qn_cli *cli, int argc, char **argv, qn_err *err)
{
    const qn_command *c = cli->command;
    static const qn_common no_common;
    void *args = qn_mem_zeros(NULL, 1, c->args_bytes, err);
    if (!args)
        return QN_E_MEMORY;
    const qn_option_table none = {NULL, 0};
    const qn_option_table tables[] = {c->options, c->lossy_options ? *c->lossy_options : none, qn_common_options};
    cli->common = args;
    qn_code rc = qn_options_parse(tables, 3, c->name, argc, argv, &cli->arena, args, &cli->operands, &cli->hint, err);
    if (rc == QN_OK)
        rc = set_up(cli, err);
    if (rc == QN_OK && cli->common->help)
        qn_help_command(&cli->out, c);
    else if (rc == QN_OK) {
        rc = check_operands(cli, err);
        if (rc == QN_OK)
            rc = c->run(cli, args, err);
    }
    qn_progress_clear(&cli->progress);
    cli->common = &no_common;
    qn_mem_put(NULL, args);
    return rc;
}

static qn_code unknown_command(qn_cli *cli, const char *word, qn_err *err)
{
    qn_suggest s = qn_suggest_for(word, strlen(word));
    for (const qn_command *const *c = qn_commands; *c; c++)
        if (!(*c)->hidden)
            qn_suggest_try(&s, (*c)->name);
    if (s.best)
        qn_hint_set(&cli->hint, "did you mean '%s'?", s.best);
    else
        qn_hint_set(&cli->hint, "'quern help' lists the commands");
    char shown[160];
    qn_printable(shown, sizeof shown, word, strlen(word));
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "unknown %s '%s'", word[0] == '-' ? "option" : "command", shown);
}

static qn_code dispatch(qn_cli *cli, int argc, char **argv, qn_err *err)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word) {
        qn_hint_set(&cli->hint, "'quern help' explains what it can do");
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "a command is missing");
    }
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        word = "help";
    else if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0)
        word = "version";
    cli->command = qn_command_find(word);
    if (!cli->command)
        return unknown_command(cli, word, err);
    return run_command(cli, argc - 2, argv + 2, err);
}

/* Everything printed must have arrived: a full disk behind a redirection is an error like any other. */
static qn_code finish_stdout(qn_err *err, bool *pipe_closed)
{
    errno = 0;
    const bool failed = fflush(stdout) != 0 || ferror(stdout);
    const int sys = errno;
    if (!failed && close(STDOUT_FILENO) == 0)
        return QN_OK;
    const int why = failed ? sys : errno;
    *pipe_closed = why == EPIPE;
    return qn_err_in_path(err, QN_FAIL_SYS(err, why, "cannot be written"), "standard output");
}

/* A file that is opened must not become standard output because the caller closed that. */
static void keep_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
            _exit(QN_E_IO);
}

static void print_error(qn_cli *cli, const qn_err *err)
{
    char line[1024];
    const qn_progress *p = &cli->progress;
    qn_err_line(err, line, sizeof line);
    if (err->code != QN_E_CANCELLED) /* where a run was when it was stopped says nothing; how far it was does */
        fprintf(stderr, "quern: %s\n", line);
    else if (p->total)
        fprintf(stderr, "quern: interrupted, %.0f %% done\n", (double)p->done * 100 / (double)p->total);
    else
        fputs("quern: interrupted\n", stderr);
    if (cli->hint.text[0])
        fprintf(stderr, "hint: %s\n", cli->hint.text);
}

int main(int argc, char **argv)
{
    static qn_cli cli; /* the progress callback and the signal flag are in it; main never returns before they end */
    qn_err err;
    bool pipe_closed = false;
    keep_standard_fds();
    setlocale(LC_CTYPE, "");
    qn_signals_init();
    qn_err_clear(&err);
    qn_arena_init(&cli.arena, NULL);
    qn_code rc = dispatch(&cli, argc, argv, &err);
    if (rc == QN_OK || rc == QN_E_DIFFERENT || rc == QN_E_INCONCLUSIVE || err.code != QN_OK) {
        qn_err out_err;
        qn_err_clear(&out_err);
        const qn_code out_rc = finish_stdout(&out_err, &pipe_closed);
        if (out_rc != QN_OK && rc == QN_OK) {
            rc = out_rc;
            err = out_err;
        }
    }
    if (rc != QN_OK && err.code != QN_OK && !(pipe_closed && rc == QN_E_IO))
        print_error(&cli, &err);
    qn_arena_release(&cli.arena);
    if (pipe_closed && rc == QN_E_IO)
        qn_signals_die(SIGPIPE);
    if (rc == QN_E_CANCELLED)
        qn_signals_die(atomic_load(qn_signals_flag()));
    return (int)rc;
}
