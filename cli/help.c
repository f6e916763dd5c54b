/* help.c: see help.h. */
#include "cli/help.h"
#include <string.h>

enum { WIDTH = 80, WIDTH_MAX = 110, OPTION_COLUMN = 26 };

const char *const qn_help_checkpoints =
    "A checkpoint is a .safetensors file, a sharded set (name its model.safetensors.index.json), a model folder with "
    "everything in it, a GGUF file, an ONNX model, a PyTorch checkpoint (.pt, .pth, .bin), a numpy array or archive "
    "(.npy, .npz), or a .quern file.";

static unsigned width_of(const qn_term *t)
{
    return t->width == 0 ? WIDTH : t->width > WIDTH_MAX ? WIDTH_MAX : t->width;
}

static void heading(const qn_term *t, const char *text)
{
    fprintf(t->f, "\n%s%s%s\n", qn_term_bold(t), text, qn_term_plain(t));
}

void qn_help_option_text(const qn_option *o, char *buf, size_t n_bytes)
{
    snprintf(buf, n_bytes, "%s", o->help);
    size_t n = strlen(buf);
    if (o->type == QN_OPT_TEXTS && n < n_bytes)
        n += (size_t)snprintf(buf + n, n_bytes - n, "; may be given several times");
    if (o->fallback && n < n_bytes)
        snprintf(buf + n, n_bytes - n, " (default: %s)", o->fallback);
}

static void print_option(const qn_term *t, const qn_option *o)
{
    char spelling[80], text[600];
    qn_option_spelling(o, spelling, sizeof spelling);
    qn_help_option_text(o, text, sizeof text);
    /* long names line up whether they have a letter or not */
    const int at = fprintf(t->f, "  %s%s", o->letter ? "" : "    ", spelling);
    if (at + 2 > OPTION_COLUMN)
        fprintf(t->f, "\n%*s", OPTION_COLUMN, "");
    else
        fprintf(t->f, "%*s", OPTION_COLUMN - at, "");
    qn_text_wrap(t->f, text, OPTION_COLUMN, OPTION_COLUMN, width_of(t));
}

static void print_examples(const qn_term *t, const qn_example *e)
{
    for (; e && e->line; e++) {
        fprintf(t->f, "  %s\n      ", e->line);
        qn_text_wrap(t->f, e->meaning, 6, 6, width_of(t));
    }
}

void qn_help_command(const qn_term *t, const qn_command *c)
{
    fprintf(t->f, "%squern %s%s: ", qn_term_bold(t), c->name, qn_term_plain(t));
    qn_text_wrap(t->f, c->summary, (unsigned)(8 + strlen(c->name)), 4, width_of(t));
    fputs("\nusage: ", t->f);
    char usage[400];
    snprintf(usage, sizeof usage, "quern %s %s", c->name, c->synopsis);
    qn_text_wrap(t->f, usage, 7, 11, width_of(t));
    if (c->examples) {
        heading(t, "examples:");
        print_examples(t, c->examples);
    }
    fputc('\n', t->f);
    qn_text_wrap(t->f, c->description, 0, 0, width_of(t));
    if (c->options.n) {
        heading(t, "options:");
        for (unsigned i = 0; i < c->options.n; i++)
            print_option(t, &c->options.rows[i]);
    }
    if (c->lossy_options) {
        heading(t, "options of approximation:");
        for (unsigned i = 0; i < c->lossy_options->n; i++)
            print_option(t, &c->lossy_options->rows[i]);
    }
    heading(t, "options of every command:");
    for (unsigned i = 0; i < qn_common_options.n; i++)
        print_option(t, &qn_common_options.rows[i]);
}

static const qn_example first_steps[] = {
    {"quern compress model.safetensors", "pack it; writes model.safetensors.quern and tells what was saved"},
    {"quern verify model.safetensors.quern --against model.safetensors", "compare every bit with the original"},
    {"quern decompress model.safetensors.quern -o copy.safetensors", "get the original file back, bit for bit"},
    {NULL, NULL},
};

void qn_help_overview(const qn_term *t)
{
    const unsigned w = width_of(t);
    qn_text_wrap(t->f, "quern makes neural-network checkpoints smaller and proves what it did: a packed file gives back "
                       "the original, bit for bit.", 0, 0, w);
    fputs("\nusage: quern COMMAND INPUT -o OUTPUT [options]\n", t->f);
    heading(t, "commands:");
    for (const qn_command *const *c = qn_commands; *c; c++) {
        if ((*c)->hidden)
            continue;
        fprintf(t->f, "  %s%-12s%s", qn_term_bold(t), (*c)->name, qn_term_plain(t));
        qn_text_wrap(t->f, (*c)->summary, 14, 14, w);
    }
    heading(t, "first steps:");
    print_examples(t, first_steps);
    fputc('\n', t->f);
    qn_text_wrap(t->f, qn_help_checkpoints, 0, 0, w);
    fputc('\n', t->f);
    qn_text_wrap(t->f, "'quern help COMMAND' or 'quern COMMAND --help' explains a command; 'man quern' has the exit codes. "
                       "quern reads and writes the files you name and nothing else: no network, no settings files.",
                 0, 0, w);
}
