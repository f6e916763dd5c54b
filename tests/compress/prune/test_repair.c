/* Choosing and refitting on a small net, against normal equations solved here. */
#include "compress/prune/repair.h"
#include "tests/compress/prune/mlp.h"
#include "tests/compress/prune/solve.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { N = MLP_BATCHES * MLP_ROWS };

struct run {
    qt_mlp m;
    qn_cut *cut;
    qn_overlay *w;
    qn_repair_family report[2];
};

static struct run *begin(uint64_t seed)
{
    struct run *r = qt_made_keep(calloc(1, sizeof *r));
    qt_mlp_fill(&r->m, seed);
    return r;
}

static qn_code go(struct run *r, const qn_env *env, const char *name, uint32_t keep0, uint32_t keep1, const qn_repair_options *o, qn_err *err)
{
    const uint32_t keep[2] = {keep0, keep1};
    qt_mlp_build(&r->m, env, name);
    cr_assert_eq(qn_cut_new(env, &r->m.groups, &r->cut, err), QN_OK);
    cr_assert_eq(qn_overlay_new(env, r->m.graph, &r->w, err), QN_OK);
    return qn_repair(env, r->m.graph, &r->m.feed, keep, o, r->cut, r->w, r->report, err);
}

static void end(struct run *r)
{
    qn_overlay_free(r->w);
    qn_cut_free(r->cut);
    qt_mlp_close(&r->m);
}

/* Layer l's weights and bias by ridge regression of the dense outputs y (N × o) on inputs x (N × d) without what is gone. */
static void normal_equations(const qt_mlp *m, unsigned l, const double *x, const double *y, const uint8_t *gone, double delta, double *w, double *b)
{
    const unsigned d = MLP_H, o = l == 2 ? MLP_OUT : MLP_H;
    double mean[MLP_H] = {0}, h[MLP_H * MLP_H], lambda = 0;
    for (unsigned r = 0; r < N; r++)
        for (unsigned c = 0; c < d; c++)
            mean[c] += x[r * d + c] / N;
    unsigned live[MLP_H], n = 0, seen = 0;
    for (unsigned c = 0; c < d; c++) {
        double v = 0;
        for (unsigned r = 0; r < N; r++)
            v += (x[r * d + c] - mean[c]) * (x[r * d + c] - mean[c]) / N;
        lambda += v;
        seen += v > 0;
        if (!gone[c])
            live[n++] = c;
    }
    lambda *= delta / seen;
    for (unsigned i = 0; i < o; i++) {
        double my = 0, t[MLP_H];
        for (unsigned r = 0; r < N; r++)
            my += y[r * o + i] / N;
        for (unsigned a = 0; a < n; a++) {
            t[a] = lambda * (double)m->w[l][i * d + live[a]];
            for (unsigned c = 0; c < n; c++)
                h[a * n + c] = a == c ? lambda : 0;
            for (unsigned r = 0; r < N; r++) {
                const double xa = x[r * d + live[a]] - mean[live[a]];
                t[a] += xa * (y[r * o + i] - my) / N;
                for (unsigned c = 0; c < n; c++)
                    h[a * n + c] += xa * (x[r * d + live[c]] - mean[live[c]]) / N;
            }
        }
        qt_solve(h, t, n);
        b[i] = my;
        memset(w + i * d, 0, d * sizeof *w);
        for (unsigned a = 0; a < n; a++) {
            w[i * d + live[a]] = t[a];
            b[i] -= t[a] * mean[live[a]];
        }
    }
}

static void compare(const struct run *r, unsigned l, const double *w, const double *b, const uint8_t *gone_out)
{
    const unsigned o = l == 2 ? MLP_OUT : MLP_H;
    const float *gw = r->w->data[r->m.wv[l]], *gb = r->w->data[r->m.bv[l]];
    for (unsigned i = 0; i < o; i++) {
        const bool gone = gone_out && gone_out[i];
        for (unsigned c = 0; c < MLP_H; c++)
            cr_assert_float_eq((double)gw[i * MLP_H + c], gone ? 0 : w[i * MLP_H + c], 2e-5, "layer %u (%u, %u): %g, not %g", l, i, c,
                               (double)gw[i * MLP_H + c], w[i * MLP_H + c]);
        cr_assert_float_eq((double)gb[i], gone ? 0 : b[i], 2e-5, "layer %u bias %u: %g, not %g", l, i, (double)gb[i], b[i]);
    }
}

Test(repair, normal_equations)
{
    static double x[N * MLP_H], y[N * MLP_H], z[N * MLP_H], w[MLP_H * MLP_H], b[MLP_H];
    struct run *r = begin(1);
    qn_err err = {0};
    cr_assert_eq(go(r, qt_made_env(2), "a.safetensors", 8, 7, &(qn_repair_options){.refit = true, .ridge = 0.02}, &err), QN_OK, "%s", err.text);
    cr_assert_eq(r->cut->n_gone[0], 4);
    cr_assert_eq(r->cut->n_gone[1], 5);
    for (unsigned f = 0; f < 2; f++)
        cr_assert(r->report[f].refitted && r->report[f].after < r->report[f].before, "%u", f);
    /* the first consumer sees what the dense model sees */
    qt_mlp_layer(&r->m, NULL, NULL, 1, 0, N, x, y);
    normal_equations(&r->m, 1, x, y, r->cut->gone[0], 0.02, w, b);
    compare(r, 1, w, b, r->cut->gone[1]);
    /* the second what the pruned one gives; its targets are the dense one's. The channels that go there had been refitted before they went. */
    float w1[MLP_H * MLP_H], b1[MLP_H];
    for (unsigned i = 0; i < MLP_H * MLP_H; i++)
        w1[i] = (float)w[i];
    for (unsigned i = 0; i < MLP_H; i++)
        b1[i] = (float)b[i];
    qt_mlp_layer(&r->m, NULL, NULL, 2, 0, N, x, y);
    qt_mlp_layer(&r->m, (const float *const[]){NULL, w1, NULL}, (const float *const[]){NULL, b1, NULL}, 2, 0, N, x, z);
    normal_equations(&r->m, 2, x, y, r->cut->gone[1], 0.02, w, b);
    compare(r, 2, w, b, NULL);
    for (unsigned i = 0; i < MLP_H; i++)
        for (unsigned c = 0; c < MLP_IN && r->cut->gone[0][i]; c++)
            cr_assert_eq(r->w->data[r->m.wv[0]][i * MLP_IN + c], 0.0f);
    end(r);
}

/* What the best weights without these columns leave, relative to the outputs, ridge included. */
static double left(const qt_mlp *m, const uint8_t *gone, double delta)
{
    static double x[N * MLP_H], y[N * MLP_H], w[MLP_H * MLP_H], b[MLP_H];
    double sum = 0, energy = 0, lambda = 0;
    qt_mlp_layer(m, NULL, NULL, 1, 0, N, x, y);
    normal_equations(m, 1, x, y, gone, delta, w, b);
    for (unsigned c = 0; c < MLP_H; c++) {
        double mean = 0, v = 0;
        for (unsigned r = 0; r < N; r++)
            mean += x[r * MLP_H + c] / N;
        for (unsigned r = 0; r < N; r++)
            v += (x[r * MLP_H + c] - mean) * (x[r * MLP_H + c] - mean) / N;
        lambda += delta * v / MLP_H;
    }
    for (unsigned i = 0; i < MLP_H; i++) {
        double mean = 0;
        for (unsigned r = 0; r < N; r++)
            mean += y[r * MLP_H + i] / N;
        for (unsigned r = 0; r < N; r++) {
            double e = y[r * MLP_H + i] - b[i];
            for (unsigned c = 0; c < MLP_H; c++)
                e -= w[i * MLP_H + c] * x[r * MLP_H + c];
            sum += e * e / N;
            energy += (y[r * MLP_H + i] - mean) * (y[r * MLP_H + i] - mean) / N;
        }
        for (unsigned c = 0; c < MLP_H; c++) {
            const double e = w[i * MLP_H + c] - (double)m->w[1][i * MLP_H + c];
            sum += lambda * e * e;
            energy += lambda * (double)m->w[1][i * MLP_H + c] * (double)m->w[1][i * MLP_H + c];
        }
    }
    return sum / energy;
}

Test(repair, curves)
{
    struct run *r = begin(2);
    qn_curves c;
    qn_err err = {0};
    const qn_env *env = qt_made_env(1);
    qt_mlp_build(&r->m, env, "c.safetensors");
    cr_assert_eq(qn_repair_curves(env, r->m.graph, &r->m.feed, &r->m.groups, &(qn_repair_options){.ridge = 0.01}, &c, &err), QN_OK, "%s", err.text);
    cr_assert_eq(c.error[0][0], 0);
    uint8_t gone[MLP_H] = {0};
    for (unsigned k = 0; k < MLP_H - 1; k++) {
        uint32_t best = 0;
        double least = 1e9;
        for (uint32_t g = 0; g < MLP_H; g++) {
            if (gone[g])
                continue;
            gone[g] = 1;
            const double e = left(&r->m, gone, 0.01);
            gone[g] = 0;
            if (e < least) {
                least = e;
                best = g;
            }
        }
        cr_assert_eq(c.order[0][k], best, "removal %u", k);
        cr_assert_float_eq(c.error[0][k + 1], least, 1e-6 * least, "removal %u: %g, not %g", k, c.error[0][k + 1], least);
        gone[best] = 1;
    }
    cr_assert_float_eq(c.error[0][MLP_H], 1, 1e-6);
    qn_curves_release(&c);
    qt_mlp_close(&r->m);
}

/* Neurons 0 and 5 are one in the batches that make the refit, and not in those that judge it. */
Test(repair, undone)
{
    struct run *r = begin(3);
    qn_err err = {0};
    for (unsigned i = 0; i < MLP_H; i++)
        r->m.w[0][i * MLP_IN + 1] = 0; /* only neuron 5 looks at input 1 */
    for (unsigned c = 0; c < MLP_IN; c++) {
        r->m.w[0][c] = c == 0;
        r->m.w[0][5 * MLP_IN + c] = c == 1;
    }
    r->m.b[0][0] = r->m.b[0][5] = 20; /* never cut off by the Relu */
    for (unsigned i = 0; i < MLP_H; i++)
        r->m.w[1][i * MLP_H + 5] = 0.01f; /* so that it is what goes */
    for (unsigned k = 0; k < N; k++) {
        float *x = r->m.x + k * MLP_IN;
        x[1] = k / MLP_ROWS % 5 == 4 ? -20 - 8 * x[0] : -20 + x[0]; /* batches 4 and 9 are held out */
    }
    r->m.b[0][0] = 0;
    cr_assert_eq(go(r, qt_made_env(1), "u.safetensors", MLP_H - 1, MLP_H, &(qn_repair_options){.refit = true, .ridge = 1e-4, .saliency = QN_SALIENCY_WANDA}, &err),
                 QN_OK, "%s", err.text);
    cr_assert_eq(r->cut->gone[0][5], 1);
    cr_expect(!r->report[0].refitted);
    cr_expect_eq(r->report[0].before, r->report[0].after);
    cr_assert_not_null(r->report[0].note);
    const float *w = r->w->data[r->m.wv[1]];
    for (unsigned i = 0; i < MLP_H; i++)
        for (unsigned c = 0; c < MLP_H; c++)
            cr_assert_eq(w[i * MLP_H + c], c == 5 ? 0 : r->m.w[1][i * MLP_H + c], "(%u, %u)", i, c);
    end(r);
}

Test(repair, threads)
{
    qn_err err = {0};
    struct run *r[2] = {begin(4), begin(4)};
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(go(r[i], qt_made_env(i ? 3 : 1), i ? "t1.safetensors" : "t0.safetensors", 6, 5, &(qn_repair_options){.refit = true}, &err), QN_OK, "%s",
                     err.text);
    for (unsigned f = 0; f < 2; f++) {
        cr_assert_eq(memcmp(r[0]->cut->gone[f], r[1]->cut->gone[f], MLP_H), 0);
        cr_assert_eq(memcmp(&r[0]->report[f].after, &r[1]->report[f].after, sizeof(double)), 0);
    }
    for (unsigned l = 1; l < 3; l++)
        cr_assert_eq(memcmp(r[0]->w->data[r[0]->m.wv[l]], r[1]->w->data[r[1]->m.wv[l]], (l == 1 ? MLP_H : MLP_OUT) * sizeof(float[MLP_H])), 0);
    end(r[0]);
    end(r[1]);
}

/* A neuron that never fires, and one that always gives the same, go before all others; nothing is lost. */
Test(repair, dead_first)
{
    struct run *r = begin(5);
    qn_err err = {0};
    for (unsigned c = 0; c < MLP_IN; c++)
        r->m.w[0][3 * MLP_IN + c] = r->m.w[0][7 * MLP_IN + c] = 0;
    r->m.b[0][3] = -1;
    r->m.b[0][7] = 2;
    for (unsigned i = 0; i < MLP_H; i++)
        r->m.w[1][i * MLP_H + 3] = r->m.w[1][i * MLP_H + 7] = 50;
    cr_assert_eq(go(r, qt_made_env(1), "d.safetensors", MLP_H - 2, MLP_H, &(qn_repair_options){.refit = true}, &err), QN_OK, "%s", err.text);
    cr_assert(r->cut->gone[0][3] && r->cut->gone[0][7]);
    cr_assert_lt(r->report[0].after, 1e-9);
    cr_assert_gt(r->report[0].before, 1);
    end(r);
}

Test(repair, memory)
{
    struct run *r = begin(6);
    qn_err err = {0};
    cr_assert_eq(go(r, qt_made_env(1), "m.safetensors", 6, 6, &(qn_repair_options){.refit = true, .memory_bytes = 32 << 20}, &err), QN_E_MEMORY);
    cr_assert(strstr(err.text, "allow more, or choose by magnitude without a refit"), "%s", err.text);
    end(r);
    r = begin(6);
    cr_assert_eq(go(r, qt_made_env(1), "n.safetensors", 6, 6, &(qn_repair_options){.refit = true, .memory_bytes = 256 << 20}, &err), QN_OK, "%s", err.text);
    end(r);
    r = begin(6); /* what needs no rows needs no memory for them */
    cr_assert_eq(go(r, qt_made_env(1), "o.safetensors", 6, 6, &(qn_repair_options){.saliency = QN_SALIENCY_MAGNITUDE, .memory_bytes = 1 << 20}, &err), QN_OK,
                 "%s", err.text);
    end(r);
}

/* By magnitude, without a refit: the smallest of ‖row‖² + bias² + ‖column‖². */
Test(repair, magnitude)
{
    struct run *r = begin(7);
    qn_err err = {0};
    cr_assert_eq(go(r, qt_made_env(1), "g.safetensors", 5, MLP_H, &(qn_repair_options){.saliency = QN_SALIENCY_MAGNITUDE}, &err), QN_OK, "%s", err.text);
    double s[MLP_H];
    for (unsigned i = 0; i < MLP_H; i++) {
        s[i] = (double)(r->m.b[0][i] * r->m.b[0][i]);
        for (unsigned c = 0; c < MLP_IN; c++)
            s[i] += (double)(r->m.w[0][i * MLP_IN + c] * r->m.w[0][i * MLP_IN + c]);
        for (unsigned o = 0; o < MLP_H; o++)
            s[i] += (double)(r->m.w[1][o * MLP_H + i] * r->m.w[1][o * MLP_H + i]);
    }
    for (unsigned i = 0; i < MLP_H; i++) {
        unsigned below = 0;
        for (unsigned k = 0; k < MLP_H; k++)
            below += s[k] < s[i];
        cr_assert_eq(r->cut->gone[0][i], below < MLP_H - 5, "%u", i);
        for (unsigned o = 0; o < MLP_H; o++)
            cr_assert_eq(r->w->data[r->m.wv[1]][o * MLP_H + i], below < MLP_H - 5 ? 0 : r->m.w[1][o * MLP_H + i]);
    }
    end(r);
}

/* Groups that are gone already stay gone and count. */
Test(repair, gone_before)
{
    struct run *r = begin(8);
    qn_err err = {0};
    const qn_env *env = qt_made_env(1);
    qt_mlp_build(&r->m, env, "b.safetensors");
    cr_assert_eq(qn_cut_new(env, &r->m.groups, &r->cut, &err), QN_OK);
    cr_assert_eq(qn_overlay_new(env, r->m.graph, &r->w, &err), QN_OK);
    qn_cut_set(r->cut, 0, 2, true);
    qn_cut_set(r->cut, 0, 11, true);
    cr_assert_eq(qn_repair(env, r->m.graph, &r->m.feed, (const uint32_t[]){MLP_H - 4, MLP_H}, &(qn_repair_options){.refit = true}, r->cut, r->w, r->report, &err),
                 QN_OK, "%s", err.text);
    cr_assert_eq(r->cut->n_gone[0], 4);
    cr_assert(r->cut->gone[0][2] && r->cut->gone[0][11]);
    end(r);
}
