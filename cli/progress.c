/* progress.c: see progress.h. */
#include "cli/progress.h"
#include "cli/cli.h"
#include "cli/units.h"
#include <string.h>

/* Seconds: before the first line, between redraws on a terminal, between plain lines, and the window of the rate. */
#define QUIET_FOR   2.0
#define REDRAW      0.1
#define PLAIN_EVERY 5.0
#define RATE_WINDOW 4.0

void qn_progress_init(qn_progress *p, const qn_term *term, bool forced, bool quiet)
{
    *p = (qn_progress){.term = term, .on = forced || (term->is_tty && !quiet), .began = qn_cli_now()};
    p->drawn = p->began;
    if (forced) { /* who asks for it does not want to wait for it */
        p->began -= QUIET_FOR;
        p->drawn -= PLAIN_EVERY;
    }
}

void qn_progress_clear(qn_progress *p)
{
    if (p->shown && p->term->is_tty) {
        fputs("\r\033[K", p->term->f);
        fflush(p->term->f);
    }
    p->shown = false;
}

static void begin_phase(qn_progress *p, const char *what, uint64_t done, double now)
{
    p->what = what;
    p->phase_began = p->last_at = now;
    p->phase_from = p->last_done = done;
    p->rate = 0;
}

/* An exponential average over RATE_WINDOW: steady against uneven chunks, quick enough when the disk slows down. */
static void measure(qn_progress *p, double now)
{
    const double dt = now - p->last_at;
    if (dt < REDRAW / 2)
        return;
    const double rate = (double)(p->done - p->last_done) / dt;
    const double age = now - p->phase_began;
    const double weight = age < RATE_WINDOW ? dt / age : dt / RATE_WINDOW;
    p->rate += (rate - p->rate) * (weight < 1 ? weight : 1);
    p->last_at = now;
    p->last_done = p->done;
}

/* Phases named "… tokens" and "… runs" count those, all others bytes. */
static bool counts(const qn_progress *p)
{
    const char *unit = strrchr(p->what, ' ');
    return unit && (!strcmp(unit, " tokens") || !strcmp(unit, " runs"));
}

static void amount(const qn_progress *p, char *buf, size_t n, uint64_t v)
{
    if (counts(p))
        qn_human_count(buf, n, v);
    else
        qn_human_bytes(buf, n, v);
}

static void draw(qn_progress *p)
{
    char done[32], total[32], rate[32] = "", left[32] = "", line[160];
    amount(p, done, sizeof done, p->done);
    if (p->rate >= 1 && counts(p)) {
        char count[24];
        qn_human_count(count, sizeof count, (uint64_t)p->rate);
        snprintf(rate, sizeof rate, "%s/s", count);
    } else if (p->rate >= 1) {
        qn_human_rate(rate, sizeof rate, (uint64_t)p->rate, 1);
    }
    if (p->total) {
        amount(p, total, sizeof total, p->total);
        if (p->rate >= 1)
            qn_human_seconds(left, sizeof left, (double)(p->total - p->done) / p->rate);
        snprintf(line, sizeof line, "%s %3u %%  %s of %s%s%s%s%s", p->what,
                 (unsigned)((double)p->done * 100 / (double)p->total), done, total, *rate ? "  " : "", rate,
                 *left ? "  " : "", left);
    } else {
        snprintf(line, sizeof line, "%s  %s%s%s", p->what, done, *rate ? "  " : "", rate);
        left[0] = '\0';
    }
    const char *tail = *left ? " left" : "";
    if (p->term->is_tty) {
        const int room = p->term->width > 1 ? (int)p->term->width - 1 : 79;
        char whole[176];
        snprintf(whole, sizeof whole, "%s%s", line, tail);
        fprintf(p->term->f, "\r%.*s\033[K", room, whole);
    } else {
        fprintf(p->term->f, "quern: %s%s\n", line, tail);
    }
    fflush(p->term->f);
    p->shown = true;
}

void qn_progress_update(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    qn_progress *p = ctx;
    p->done = total && done > total ? total : done;
    p->total = total;
    if (!p->on)
        return;
    const double now = qn_cli_now();
    if (!p->what || strcmp(p->what, what) != 0)
        begin_phase(p, what, done, now);
    measure(p, now);
    if (now - p->began < QUIET_FOR || now - p->drawn < (p->term->is_tty ? REDRAW : PLAIN_EVERY))
        return;
    p->drawn = now;
    draw(p);
}
