/* test_options.c: the parser on a table with one option of each kind. */
#include "base/err.h"
#include "cli/options.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct args {
    bool flag, other;
    const char *text;
    qn_texts texts;
    uint64_t count, size;
    double real;
    int choice;
};

static const char *const choices[] = {"low", "high", NULL};
static const qn_option rows[] = {
    {.name = "flag", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, flag), .help = ""},
    {.name = "other", .letter = 'x', .type = QN_OPT_FLAG, .at = offsetof(struct args, other), .help = ""},
    {.name = "text", .letter = 't', .type = QN_OPT_TEXT, .at = offsetof(struct args, text), .arg = "T", .help = ""},
    {.name = "texts", .letter = 'm', .type = QN_OPT_TEXTS, .at = offsetof(struct args, texts), .arg = "T", .help = ""},
    {.name = "count", .letter = 'c', .type = QN_OPT_COUNT, .at = offsetof(struct args, count), .arg = "N", .min = 1, .max = 9,
     .fallback = "3", .help = ""},
    {.name = "size", .type = QN_OPT_SIZE, .at = offsetof(struct args, size), .arg = "S", .help = ""},
    {.name = "real", .type = QN_OPT_REAL, .at = offsetof(struct args, real), .arg = "R", .max = 1, .help = ""},
    {.name = "choice", .letter = 'l', .type = QN_OPT_CHOICE, .at = offsetof(struct args, choice), .arg = "L",
     .choices = choices, .implied = "high", .fallback = "low", .help = ""},
};

static struct args a;
static qn_arena arena;
static qn_operands operands;
static qn_hint hint;
static qn_err err;

/* The line is words separated by spaces; an empty word is written "@". */
static qn_code parse(const char *line)
{
    static char words[256];
    char *argv[32];
    int argc = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
        argv[argc++] = strcmp(w, "@") == 0 ? w + 1 : w;
    a = (struct args){0};
    hint.text[0] = '\0';
    qn_err_clear(&err);
    qn_arena_release(&arena);
    qn_arena_init(&arena, NULL);
    const qn_option_table table = QN_OPTION_TABLE(rows);
    return qn_options_parse(&table, 1, "test", argc, argv, &arena, &a, &operands, &hint, &err);
}

Test(options, defaults)
{
    cr_assert_eq(parse(""), QN_OK);
    cr_assert(!a.flag && !a.text && a.count == 3 && a.size == 0 && a.choice == 0 && operands.n == 0);
}

Test(options, every_spelling)
{
    cr_assert_eq(parse("in --text=a --count 7 out --size=1.5K --real=0.25 --choice"), QN_OK);
    cr_assert_str_eq(a.text, "a");
    cr_assert(a.count == 7 && a.size == 1536 && a.real == 0.25 && a.choice == 1);
    cr_assert(operands.n == 2 && strcmp(operands.items[1], "out") == 0);
    cr_assert_eq(parse("-fxc5 -ta=b -t"), QN_E_USAGE);
    cr_assert_eq(parse("-fxc5 -ta=b -l"), QN_OK);
    cr_assert(a.flag && a.other && a.count == 5 && a.choice == 1 && strcmp(a.text, "a=b") == 0);
    cr_assert_eq(parse("--choice low"), QN_OK); /* an optional value must be joined: `low` is an operand */
    cr_assert(a.choice == 1 && operands.n == 1);
    cr_assert_eq(parse("-m a --texts=b -mc --flag --flag"), QN_OK);
    cr_assert(a.texts.n == 3 && strcmp(a.texts.items[2], "c") == 0);
    cr_assert_eq(parse("-- --flag - --"), QN_OK);
    cr_assert(operands.n == 3 && !a.flag);
    cr_assert_eq(parse("- x"), QN_OK);
    cr_assert_eq(operands.n, 2);
}

Test(options, what_is_wrong_is_refused)
{
    static const char *const bad[] = {"--nothing", "-z", "-fz", "--flag=1", "--text", "-t", "--text=a --text=b", "--text=",
                                      "--text @", "--count=0", "--count=10", "--count=x", "--count=", "--real=2", "--real=nan",
                                      "--real=inf", "--real=0.5x", "--real=-1", "--size=1Q", "--choice=mid", "--choice=",
                                      "--=x", "--fla", "-count"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(parse(bad[i]), QN_E_USAGE, "%s", bad[i]);
        cr_assert(strncmp(err.text, "test: ", 6) == 0, "%s: %s", bad[i], err.text);
    }
    cr_assert_eq(parse("--cuont 1"), QN_E_USAGE);
    cr_assert_str_eq(hint.text, "did you mean --count?");
}
