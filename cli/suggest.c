/* suggest.c: optimal string alignment distance (insert, delete, replace, swap of neighbours), three rows at a time. */
#include "cli/suggest.h"
#include <string.h>

enum { WORD_MAX = 48 }; /* longer words are no typing mistakes of ours */

qn_suggest qn_suggest_for(const char *word, size_t n)
{
    /* One slip in three letters is still recognisable; more is guessing. */
    return (qn_suggest){.word = word, .n = n, .distance = (unsigned)(n < 3 ? 1 : n / 3) + 1};
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    const unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        last[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = min3(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        unsigned *const spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[m];
}

void qn_suggest_try(qn_suggest *s, const char *candidate)
{
    const size_t m = strlen(candidate);
    if (s->n == 0 || s->n > WORD_MAX || m > WORD_MAX)
        return;
    unsigned d = distance(s->word, s->n, candidate, m);
    /* a beginning of the word is a likelier thought than any spelling mistake */
    if (s->n >= 3 && s->n < m && memcmp(s->word, candidate, s->n) == 0)
        d = 1;
    if (d < s->distance) {
        s->distance = d;
        s->best = candidate;
    }
}
