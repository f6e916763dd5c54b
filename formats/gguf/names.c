/* names.c (gguf): see names.h. */
#include "formats/gguf/names.h"
#include <stdio.h>
#include <string.h>

enum { DIGITS_MAX = 7 };

uint32_t qn_gguf_arch_bit(const char *arch)
{
    for (unsigned i = 0; qn_gguf_archs[i]; i++)
        if (strcmp(qn_gguf_archs[i], arch) == 0)
            return UINT32_C(1) << i;
    return 0;
}

/* A number as it is written in names: no sign, no zero in front, a few digits. */
static bool take_number(const char **s, uint32_t *v)
{
    unsigned n = 0;
    *v = 0;
    for (; n < DIGITS_MAX && **s >= '0' && **s <= '9'; n++)
        *v = *v * 10 + (uint32_t)(*(*s)++ - '0');
    return n > 0 && (**s < '0' || **s > '9') && ((*s)[-(int)n] != '0' || n == 1);
}

/* What follows the pattern in `name`, or NULL: then it does not fit. */
static const char *fits(const char *pattern, const char *name, uint32_t *layer, uint32_t *expert)
{
    for (; *pattern; pattern++) {
        if (*pattern == '#' || *pattern == '@') {
            if (!take_number(&name, *pattern == '#' ? layer : expert))
                return NULL;
        } else if (*name++ != *pattern) {
            return NULL;
        }
    }
    return strcmp(name, ".weight") == 0 || strcmp(name, ".bias") == 0 ? name : NULL;
}

static bool print(char out[QN_GGUF_NAME_CAP], const char *pattern, uint32_t layer, uint32_t expert, const char *rest)
{
    size_t at = 0;
    for (; *pattern && at < QN_GGUF_NAME_CAP; pattern++) {
        const int n = *pattern == '#' || *pattern == '@'
                          ? snprintf(out + at, QN_GGUF_NAME_CAP - at, "%lu", (unsigned long)(*pattern == '#' ? layer : expert))
                          : snprintf(out + at, QN_GGUF_NAME_CAP - at, "%c", *pattern);
        at += (size_t)n;
    }
    if (at < QN_GGUF_NAME_CAP)
        at += (size_t)snprintf(out + at, QN_GGUF_NAME_CAP - at, "%s", rest);
    return at < QN_GGUF_NAME_CAP;
}

static bool from_hf(uint32_t arch, const char *hf, char *out, uint32_t *expert)
{
    for (unsigned i = 0; i < qn_gguf_name_rows; i++) {
        const qn_gguf_name_row *r = &qn_gguf_name_tab[i];
        uint32_t layer = 0;
        *expert = QN_GGUF_NO_EXPERT;
        const char *rest = r->archs & arch ? fits(r->hf, hf, &layer, expert) : NULL;
        if (rest)
            return print(out, r->gguf, layer, *expert, rest);
    }
    return false;
}

bool qn_gguf_name_from_hf(uint32_t arch, const char *hf, char out[QN_GGUF_NAME_CAP], uint32_t *expert)
{
    static const struct {
        const char *cut, *put; /* in front */
    } fronts[] = {{"transformer.", ""}, {"language_model.", ""}, {"model.language_model.", "model."}};
    char name[QN_GGUF_NAME_CAP];
    if (from_hf(arch, hf, out, expert))
        return true;
    for (unsigned i = 0; i < sizeof fronts / sizeof fronts[0]; i++) {
        const size_t n = strlen(fronts[i].cut);
        if (strncmp(hf, fronts[i].cut, n) == 0 &&
            (size_t)snprintf(name, sizeof name, "%s%s", fronts[i].put, hf + n) < sizeof name)
            return from_hf(arch, name, out, expert);
    }
    return false;
}

bool qn_gguf_name_to_hf(uint32_t arch, const char *gguf, uint32_t expert, char out[QN_GGUF_NAME_CAP])
{
    for (unsigned i = 0; i < qn_gguf_name_rows; i++) {
        const qn_gguf_name_row *r = &qn_gguf_name_tab[i];
        uint32_t layer = 0, none;
        if (!(r->archs & arch) || (strchr(r->hf, '@') != NULL) != (expert != QN_GGUF_NO_EXPERT))
            continue;
        const char *rest = fits(r->gguf, gguf, &layer, &none);
        if (rest)
            return print(out, r->hf, layer, expert, rest);
    }
    return false;
}
