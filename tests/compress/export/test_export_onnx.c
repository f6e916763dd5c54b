/* test_export_onnx.c: ONNX models exported: every weight decoded here from the tensors of the new file, by the layout that MatMulNBits and
 * DequantizeLinear document, must be the .quern's to the bit; and the new model must compute what the decoded one computes. */
#include "analysis/graph/build.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/onnx_opset.h"
#include "compress/export/run.h"
#include "formats/onnx/onnx.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/onnx_made.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

#define INT(name, v)   "@5{@1{'" name "'} #3=" v " #20=2}"
#define FLOAT(name, v) "@5{@1{'" name "'} %2=" v " #20=1}"

enum { IN = 70, MID = 48, OUT = 20 }; /* no multiples of 32 */

/* x (N, 70) → MatMul (70, 48) twice, Gemm (48, 48) of one more, Gemm transB (20, 48) with a bias, one that scales; a convolution beside. */
static const char *made_model(const char *rel, unsigned opset)
{
    qt_onnx m;
    qt_onnx_begin(&m, opset);
    qt_onnx_floats(&m, "w1", 0.2, 0, 2, IN, MID);
    qt_onnx_floats(&m, "w2", 0.2, 0.02, 2, MID, MID);
    qt_onnx_floats(&m, "w3", 0.2, 0, 2, OUT, MID);
    qt_onnx_floats(&m, "b3", 0.2, 0, 1, OUT);
    qt_onnx_floats(&m, "w4", 0.2, 0, 2, MID, MID);
    qt_onnx_floats(&m, "c", 0.2, 0, 4, 24, 4, 3, 3);
    qt_onnx_input(&m, "x", "N,70");
    qt_onnx_input(&m, "y", "N,70");
    qt_onnx_input(&m, "image", "N,4,5,5");
    qt_onnx_output(&m, "out", "N,20");
    qt_onnx_output(&m, "maps", "N,24,3,3");
    qt_onnx_node(&m, "MatMul", "x,w1", "h1", "");
    qt_onnx_node(&m, "MatMul", "y,w1", "h2", "");
    qt_onnx_node(&m, "Add", "h1,h2", "h3", "");
    qt_onnx_node(&m, "Relu", "h3", "h4", "");
    qt_onnx_node(&m, "Gemm", "h4,w2", "h5", "");
    qt_onnx_node(&m, "Gemm", "h5,w4", "h6", FLOAT("alpha", "1056964608")); /* 0.5 */
    qt_onnx_node(&m, "Gemm", "h6,w3,b3", "out", INT("transB", "1"));
    qt_onnx_node(&m, "Conv", "image,c", "maps", "");
    return qt_onnx_write(&m, rel);
}

/* ---- an export ---- */

typedef struct done {
    qt_onnx_open out, solve; /* solve.s NULL: none was needed */
    qn_export_run run;
} done;

static qn_code try(const char *in, const char *variant, const qn_export_wish *wish, done *d)
{
    const qn_env *env = qt_made_env(1);
    static qn_export_options o; /* outlives the run */
    qn_source *s = qt_made_open(env, in);
    const qn_export_request r = {.target = &qn_export_onnx, .variant = variant, .path = qt_made_path("out.onnx")};
    o = (qn_export_options){.wish = *wish, .keep = qt_made_path("solve.quern"), .overwrite = true};
    unlink(qt_made_path("solve.quern"));
    unlink(qt_made_path("out.onnx.data"));
    unlink(qt_made_path("out.onnx"));
    *d = (done){0};
    err = (qn_err){0};
    qn_code rc = qn_export_open(&d->run, env, s, &r, 1, &o, &err);
    if (rc == QN_OK)
        rc = qn_export_all(&d->run, &err);
    if (rc == QN_OK) {
        d->out = qt_onnx_load(r.path);
        if (d->run.n_solves)
            d->solve = qt_onnx_load(o.keep);
    }
    if (rc != QN_OK)
        qn_export_close(&d->run);
    qn_source_close(s);
    return rc;
}

static void export(const char *in, const char *variant, const qn_export_wish *wish, done *d)
{
    OK(try(in, variant, wish, d));
}

static void close_done(done *d)
{
    qt_onnx_close(&d->out);
    if (d->solve.s)
        qt_onnx_close(&d->solve);
    qn_export_close(&d->run);
}

static const qn_export_row *row_of(const done *d, const char *name)
{
    for (uint64_t i = 0; i < d->run.jobs[0].n_rows; i++)
        if (!strcmp(d->run.jobs[0].rows[i].name, name))
            return &d->run.jobs[0].rows[i];
    cr_assert_fail("no row for %s", name);
    return NULL;
}

/* Both over sizes 2 and 3 of what is unknown. */
static void same_outputs(const qn_graph *a, const qn_graph *b, double bar)
{
    for (unsigned i = 0; i < b->n_outputs; i++)
        for (int64_t size = 2; size < 4; size++) {
            const qn_array x = qt_onnx_eval(a, NULL, 5, size, i), y = qt_onnx_eval(b, NULL, 5, size, i);
            cr_assert_leq(qt_onnx_apart(&x, &y), bar, "output %u is %g apart", i, qt_onnx_apart(&x, &y));
        }
}

/* ---- decoding, from the layouts ---- */

static const uint8_t *bytes_of(qn_source *s, const char *name, uint64_t *n, bool must)
{
    const uint64_t i = qn_source_tensor_find(s, name);
    if (i == UINT64_MAX) {
        cr_assert(!must, "%s is not there", name);
        return NULL;
    }
    uint8_t *p = qt_made_keep(malloc((size_t)s->tensors[i].n_bytes + 1));
    OK(qn_source_tensor_read(s, i, 0, s->tensors[i].n_bytes, p, &err));
    *n = s->tensors[i].n_bytes;
    return p;
}

static unsigned code(const uint8_t *p, uint64_t i, unsigned bits)
{
    return p[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
}

static float f32(const uint8_t *p, uint64_t i)
{
    return qn_bits_f32(qn_load32(p + 4 * i));
}

/* The weight as the .quern has it, at (out, in). */
static float want_at(const uint8_t *w, bool turned, unsigned rows, unsigned cols, unsigned r, unsigned c)
{
    return turned ? f32(w, (uint64_t)c * rows + r) : f32(w, (uint64_t)r * cols + c);
}

static void nbits_weight(const done *d, qn_source *held, const char *w, unsigned bits, unsigned block, bool turned, unsigned rows, unsigned cols)
{
    char name[64];
    uint64_t n, n_codes, n_scales, n_zeros = 0;
    const unsigned blocks = (cols + block - 1) / block, zero_row = (blocks * bits + 7) / 8;
    const uint8_t *want = bytes_of(held, w, &n, true);
    snprintf(name, sizeof name, "%s_Q%u", w, bits);
    const uint8_t *codes = bytes_of(d->out.s, name, &n_codes, true);
    snprintf(name, sizeof name, "%s_scales", w);
    const uint8_t *scales = bytes_of(d->out.s, name, &n_scales, true);
    snprintf(name, sizeof name, "%s_zero_points", w);
    const uint8_t *zeros = bytes_of(d->out.s, name, &n_zeros, false);
    const bool floats = zeros && n_zeros == n_scales;
    cr_assert(n_codes == (uint64_t)rows * blocks * block * bits / 8 && n_scales == 4ull * rows * blocks);
    cr_assert(!zeros || floats || n_zeros == (uint64_t)rows * zero_row);
    for (unsigned r = 0; r < rows; r++)
        for (unsigned c = 0; c < cols; c++) {
            const uint64_t g = (uint64_t)r * blocks + c / block;
            const float zero = !zeros ? (float)(1u << (bits - 1)) : floats ? f32(zeros, g) : (float)code(zeros + (uint64_t)r * zero_row, c / block, bits);
            const float got = ((float)code(codes + g * block * bits / 8, c % block, bits) - zero) * f32(scales, g);
            cr_assert_eq(got, want_at(want, turned, rows, cols, r, c), "%s (%u, %u)", w, r, c);
        }
    cr_assert_eq(qn_source_tensor_find(d->out.s, w), UINT64_MAX, "%s is still there", w);
}

/* int8 or uint8 in the weight's own shape, a scale for each output. */
static void axis_weight(const done *d, const char *w, bool turned, unsigned rows, unsigned cols)
{
    char name[64];
    uint64_t n, n_codes, n_scales, n_zeros;
    const uint8_t *want = bytes_of(d->solve.s, w, &n, true);
    snprintf(name, sizeof name, "%s_quantized", w);
    const uint8_t *codes = bytes_of(d->out.s, name, &n_codes, true);
    snprintf(name, sizeof name, "%s_scale", w);
    const uint8_t *scales = bytes_of(d->out.s, name, &n_scales, true);
    snprintf(name, sizeof name, "%s_zero_point", w);
    const uint8_t *zeros = bytes_of(d->out.s, name, &n_zeros, false);
    cr_assert(n_codes == (uint64_t)rows * cols && n_scales == 4ull * rows && (!zeros || n_zeros == rows));
    for (unsigned r = 0; r < rows; r++)
        for (unsigned c = 0; c < cols; c++) {
            const uint8_t q = codes[turned ? (uint64_t)c * rows + r : (uint64_t)r * cols + c];
            const float got = zeros ? ((float)q - (float)zeros[r]) * f32(scales, r) : (float)(int8_t)q * f32(scales, r);
            cr_assert_eq(got, want_at(want, turned, rows, cols, r, c), "%s (%u, %u)", w, r, c);
        }
}

/* ---- tests ---- */

Test(export_onnx, matmulnbits)
{
    const char *in = made_model("a.onnx", 17);
    for (unsigned bits = 2; bits <= 8; bits *= 2)
        for (int asymmetric = -1; asymmetric <= 1; asymmetric += 2) {
            const qn_export_wish wish = {.bits = bits, .group = bits == 8 ? 16 : 32, .asymmetric = asymmetric};
            done d;
            export(in, "matmulnbits", &wish, &d);
            nbits_weight(&d, d.solve.s, "w1", bits, wish.group, true, MID, IN);
            nbits_weight(&d, d.solve.s, "w2", bits, wish.group, true, MID, MID);
            nbits_weight(&d, d.solve.s, "w3", bits, wish.group, false, OUT, MID);
            cr_assert_eq(qn_source_tensor_find(d.out.s, "w1_zero_points") != UINT64_MAX, asymmetric > 0);
            cr_assert_eq(qt_onnx_count(d.out.g, "MatMulNBits"), 4u);
            cr_assert_eq(qt_onnx_count(d.out.g, "Gemm"), 1u, "the one that scales stays");
            cr_assert(strstr(row_of(&d, "w4")->why, "scales") && strstr(row_of(&d, "c")->why, "convolution"));
            cr_assert(!row_of(&d, "w1")->why);
            same_outputs(d.out.g, d.solve.g, 1e-5);
            close_done(&d);
        }
}

/* A scale for each row stands for each of its blocks. */
Test(export_onnx, rows_as_blocks)
{
    const qn_export_wish wish = {.bits = 4, .group = UINT32_MAX};
    done d;
    export(made_model("a.onnx", 17), "matmulnbits", &wish, &d);
    nbits_weight(&d, d.solve.s, "w2", 4, 64, true, MID, MID);
    same_outputs(d.out.g, d.solve.g, 1e-5);
    close_done(&d);
}

Test(export_onnx, qdq)
{
    const qn_export_wish both[] = {{0}, {.asymmetric = 1}};
    const char *in = made_model("a.onnx", 17);
    for (unsigned i = 0; i < 2; i++) {
        done d;
        export(in, "qdq", &both[i], &d);
        axis_weight(&d, "w1", true, MID, IN);
        axis_weight(&d, "w3", false, OUT, MID);
        axis_weight(&d, "c", false, 24, 36);
        cr_assert_eq(qt_onnx_count(d.out.g, "DequantizeLinear"), 5u);
        cr_assert_eq(qn_onnx_opset(qn_onnx_source_model(d.out.s), ""), 17);
        same_outputs(d.out.g, d.solve.g, 1e-5);
        close_done(&d);
    }
}

/* Versions are raised where that changes nothing; where it would, the same is said in older operators. */
Test(export_onnx, qdq_of_old_models)
{
    const qn_export_wish none = {0};
    done d;
    export(made_model("a.onnx", 11), "qdq", &none, &d);
    cr_assert_eq(qn_onnx_opset(qn_onnx_source_model(d.out.s), ""), 13);
    cr_assert_eq(qt_onnx_count(d.out.g, "DequantizeLinear"), 5u);
    same_outputs(d.out.g, d.solve.g, 1e-5);
    close_done(&d);
    qt_onnx m;
    qt_onnx_begin(&m, 11);
    qt_onnx_floats(&m, "w", 0.2, 0, 2, 40, 24);
    qt_onnx_input(&m, "x", "2,40");
    qt_onnx_output(&m, "out", "1,2,24");
    qt_onnx_node(&m, "MatMul", "x,w", "h", "");
    qt_onnx_node(&m, "Unsqueeze", "h", "out", "@5{@1{'axes'} #8=0 #20=7}");
    const char *old = qt_onnx_write(&m, "old.onnx");
    for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
        const qn_export_wish wish = {.asymmetric = asymmetric};
        export(old, "qdq", &wish, &d);
        cr_assert_eq(qn_onnx_opset(qn_onnx_source_model(d.out.s), ""), 11);
        cr_assert(qt_onnx_count(d.out.g, "DequantizeLinear") == 0 && qt_onnx_count(d.out.g, "Mul") == 1);
        same_outputs(d.out.g, d.solve.g, 0);
        axis_weight(&d, "w", true, 24, 40);
        close_done(&d);
    }
    cr_assert_eq(try(old, "qdq4", &none, &d), QN_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "version 21"), "%s", err.text);
}

Test(export_onnx, qdq4)
{
    const qn_export_wish wishes[] = {{0}, {.asymmetric = 1, .group = 16}};
    const char *in = made_model("a.onnx", 13);
    for (unsigned i = 0; i < 2; i++) {
        done d;
        export(in, "qdq4", &wishes[i], &d);
        const qn_onnx_model *m = qn_onnx_source_model(d.out.s);
        cr_assert(qn_onnx_opset(m, "") == 21 && m->ir_version == 10);
        cr_assert(qt_onnx_count(d.out.g, "DequantizeLinear") == 5 && qt_onnx_count(d.out.g, "Transpose") == 3 && qt_onnx_count(d.out.g, "Reshape") == 1);
        for (uint64_t k = 0; k < m->n_weights; k++)
            if (strstr(m->weights[k].name, "_quantized"))
                cr_assert_eq(m->weights[k].tensor->data_type, i ? QN_ONNX_UINT4 : QN_ONNX_INT4);
        same_outputs(d.out.g, d.solve.g, 1e-5);
        close_done(&d);
    }
}

Test(export_onnx, dense_and_half)
{
    const qn_export_wish none = {0};
    const char *in = made_model("a.onnx", 17);
    qt_onnx_open was = qt_onnx_load(in);
    uint64_t n;
    done d;
    export(in, "", &none, &d);
    cr_assert(d.run.n_solves == 0 && d.run.jobs[0].n_bytes == was.s->files[0].n_bytes);
    same_outputs(d.out.g, was.g, 0);
    close_done(&d);
    export(in, "f16", &none, &d);
    const uint8_t *half = bytes_of(d.out.s, "w1_f16", &n, true), *w = bytes_of(was.s, "w1", &n, true);
    for (unsigned i = 0; i < IN * MID; i++)
        cr_assert_eq(qn_load16(half + 2 * i), qn_f32_to_f16(f32(w, i)));
    cr_assert(!row_of(&d, "w1")->why && qt_onnx_count(d.out.g, "Cast") == 5);
    same_outputs(d.out.g, was.g, 2e-3);
    close_done(&d);
    qt_onnx_close(&was);
}

static void pack(const char *in, const char *key, const char *value, const char *out)
{
    const qn_env *env = qt_made_env(1);
    qn_source *s = qt_made_open(env, in);
    qn_session session = QN_SESSION_CLOSED;
    const qn_session_options so = {0};
    qn_pack_report report;
    OK(qn_recipe_put(&session.recipe, "codec", "grid", &err));
    OK(qn_recipe_put(&session.recipe, key, value, &err));
    OK(qn_session_open(&session, env, s, &so, &err));
    const qn_pack_options po = {.level = QN_LEVEL_FAST, .lossy = session.lossy, .overwrite = true};
    OK(qn_pack(env, s, out, &po, &report, &err));
    qn_pack_report_release(env, &report);
    qn_session_close(&session);
    qn_source_close(s);
}

/* What compress has made is taken as it is, also where zero lies between two codes: as halves, or with doubled codes. */
Test(export_onnx, codes_of_a_quern)
{
    const char *in = made_model("a.onnx", 17), *packed = qt_made_path("packed.quern");
    const qn_export_wish none = {0};
    static const struct {
        const char *bits;
        unsigned width;
        bool floats;
    } cases[] = {{"4", 4, true}, {"3", 4, false}, {"2", 2, true}, {"5", 8, false}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        done d;
        uint64_t n_scales, n_zeros;
        pack(in, "bits", cases[i].bits, packed);
        export(packed, "matmulnbits", &none, &d);
        cr_assert_eq(d.run.n_solves, 0u, "%s bits: rounded again", cases[i].bits);
        qt_onnx_open held = qt_onnx_load(packed);
        nbits_weight(&d, held.s, "w1", cases[i].width, 32, true, MID, IN);
        bytes_of(d.out.s, "w1_scales", &n_scales, true);
        bytes_of(d.out.s, "w1_zero_points", &n_zeros, true);
        cr_assert_eq(n_scales == n_zeros, cases[i].floats);
        same_outputs(d.out.g, held.g, 1e-5);
        close_done(&d);
        export(packed, "", &none, &d); /* dense: decoded into the original graph */
        same_outputs(d.out.g, held.g, 0);
        close_done(&d);
        qt_onnx_close(&held);
    }
    done d; /* other bits than it has: solved anew, and said so */
    const qn_export_wish two = {.bits = 2};
    export(packed, "matmulnbits", &two, &d);
    cr_assert_eq(d.run.n_solves, 1u);
    close_done(&d);
}

Test(export_onnx, data_in_another_file)
{
    const qn_export_wish wish = {.shard_bytes = 4096};
    done d;
    export(made_model("a.onnx", 17), "matmulnbits", &wish, &d);
    cr_assert(qn_fs_exists(qt_made_env(1)->fs, qt_made_path("out.onnx.data")) && d.out.s->n_files == 2);
    cr_assert_eq(d.run.jobs[0].n_bytes, d.out.s->files[0].n_bytes + d.out.s->files[1].n_bytes);
    nbits_weight(&d, d.solve.s, "w1", 4, 32, true, MID, IN);
    same_outputs(d.out.g, d.solve.g, 1e-5);
    cr_assert(!qn_fs_exists(qt_made_env(1)->fs, qt_made_path("out.onnx.quern-onnx")));
    close_done(&d);
}

/* Weights that a graph of its own reads keep their name, or stay. */
Test(export_onnx, subgraphs)
{
    const qn_export_wish none = {0};
    qt_onnx m;
    done d;
    qt_onnx_begin(&m, 17);
    qt_onnx_floats(&m, "w", 0.2, 0, 2, 40, 24);
    qt_onnx_text(&m, "@5{#2=9 @8{'yes'} #5=1}");
    qt_onnx_input(&m, "x", "2,40");
    qt_onnx_output(&m, "out", "2,24");
    qt_onnx_node(&m, "MatMul", "x,w", "h", "");
    qt_onnx_node(&m, "If", "yes", "i", "@5{@1{'then_branch'} #20=5 @6{@2{'a'} @1{@1{'x'} @1{'w'} @2{'t'} @4{'MatMul'}} @12{@1{'t'}}}}"
                 "@5{@1{'else_branch'} #20=5 @6{@2{'b'} @1{@1{'x'} @1{'w'} @2{'e'} @4{'MatMul'}} @12{@1{'e'}}}}");
    qt_onnx_node(&m, "Add", "h,i", "out", "");
    const char *in = qt_onnx_write(&m, "if.onnx");
    export(in, "matmulnbits", &none, &d);
    cr_assert(qt_onnx_count(d.out.g, "MatMulNBits") == 0 && strstr(row_of(&d, "w")->why, "If"));
    close_done(&d);
    export(in, "qdq", &none, &d);
    cr_assert_eq(qt_onnx_count(d.out.g, "DequantizeLinear"), 1u);
    same_outputs(d.out.g, d.solve.g, 0);
    close_done(&d);
}

Test(export_onnx, refused)
{
    static const struct {
        const char *variant;
        qn_export_wish wish;
        const char *text;
    } cases[] = {
        {"int4", {0}, "no variant"},
        {"", {.bits = 4}, "onnx:matmulnbits"},
        {"f16", {.group = 32}, "onnx:matmulnbits"},
        {"matmulnbits", {.bits = 3}, "2, 4 and 8"},
        {"matmulnbits", {.group = 48}, "powers of two"},
        {"matmulnbits", {.group = 8}, "powers of two"},
        {"matmulnbits", {.size_bytes = 1000}, "size"},
        {"qdq", {.bits = 4}, "qdq4"},
        {"qdq", {.group = 32}, "one scale"},
        {"qdq4", {.group = UINT32_MAX}, "powers of two"},
    };
    const char *in = made_model("a.onnx", 17);
    done d;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(try(in, cases[i].variant, &cases[i].wish, &d), QN_E_USAGE, "case %u", i);
        cr_assert(strstr(err.text, cases[i].text), "case %u: %s", i, err.text);
    }
    const float w[4] = {1, 2, 3, 4};
    const qt_made_tensor t = {"w", QN_F32, 2, {2, 2}, w};
    cr_assert_eq(try(qt_made_safetensors("m.safetensors", &t, 1, NULL), "", &cases[0].wish, &d), QN_E_UNSUPPORTED);
}

/* Each operator once in the table without a version, or only with versions; those in order of the alphabet are easy to check by eye. */
Test(export_onnx, table_of_versions)
{
    for (const qn_onnx_change *a = qn_onnx_changes; a->op; a++) {
        cr_assert(a->version == 0 || (a->version > QN_ONNX_OPSET_LEAST && a->version <= QN_ONNX_OPSET_MOST), "%s", a->op);
        for (const qn_onnx_change *b = a + 1; b->op; b++)
            cr_assert(strcmp(a->op, b->op) || (a->version && b->version && (a->version != b->version || a->attr != b->attr)), "%s", a->op);
    }
}
