/* quantized.h: what targets share that write linear layers as integers (or fp8) and scales under a module's name: which layers they are, what the solve is asked for,
 * whether codes that are there will do, and reading them. A target says what a format can hold and how it lays it out.
 *
 * A *module* is what a rank-2 tensor "NAME.weight" (out, in) belongs to, that a linear layer of the graph multiplies with. Of modules that are not quantized, and of
 * all other tensors, decoded weights are written under their own names. */
#ifndef QN_COMPRESS_EXPORT_QUANTIZED_H
#define QN_COMPRESS_EXPORT_QUANTIZED_H

#include "compress/export/codes.h"
#include "compress/export/folder.h"
#include "compress/lossy.h"

enum { QN_MODULE_PARTS = 6 };

/* Integers, or E4M3 numbers, and their scales. */
typedef struct qn_scheme {
    unsigned bits;      /* 8 of fp8                          */
    uint32_t group;     /* columns; of a whole row: UINT32_MAX */
    bool asymmetric;
} qn_scheme;

typedef struct qn_module {
    uint64_t tensor;     /* its weight: index in the source   */
    const char *name;    /* without ".weight"                 */
    uint32_t rows, cols; /* out, in                           */
    qn_dtype dtype;      /* of the weight in the source       */
    qn_lossy_role role;  /* LINEAR or HEAD                    */
    qn_scheme scheme;
    const char *why;     /* why it is left dense, or why its scheme is not what was asked for; NULL */
    bool quantized;
    qn_codes codes;      /* after qn_modules_look             */
} qn_module;

/* All codes of one module, by rows. */
typedef struct qn_module_codes {
    const qn_module *m;
    uint32_t groups;      /* of a row                          */
    const uint8_t *codes; /* (rows, cols); of BLOCKS their bytes, and no scales */
    const float *scales, *zeros; /* (rows, groups)             */
} qn_module_codes;

typedef struct qn_module_part {
    const char *suffix;   /* of the tensor's name: "weight_packed" */
    qn_dtype dtype;
    unsigned rank;
    uint64_t dims[2];
} qn_module_part;

typedef struct qn_quantized_format {
    const char *name;
    const char *codec;    /* of the solve: "fp8", or a block type; NULL: "grid" */
    const unsigned *bits; /* of its variants "intN", n_bits of them; 0: it reads variants by itself. Without a variant: 4 */
    unsigned n_bits;
    uint32_t group;       /* without a wish: columns that share a scale, and zero points up to so many bits */
    unsigned zeros_to;
    qn_codes_kind kind;   /* that its codes are            */
    qn_dtype block;       /* of BLOCKS                     */
    bool one_group;       /* the whole model has one width of groups: layers that it does not divide are dense */
    /* Significant bits of a scale that the format is sure to hold, with what follows from it; NULL: 8, which F16, BF16 and F32 have. */
    unsigned (*scale_bits)(qn_dtype t, const qn_scheme *s);
    /* Can it hold such a module? NULL, or why not. */
    const char *(*refuses)(const qn_module *m, const qn_scheme *s);
    /* Is the scale, with what else follows from it and the zero point, exactly representable as the format stores it? */
    bool (*holds_scale)(const qn_module *m, float scale, float zero);
    /* The module's tensors; returns how many. */
    unsigned (*parts)(const qn_module *m, qn_module_part parts[QN_MODULE_PARTS]);
    /* Fills part i, whole; dst is zeroed. */
    void (*make)(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst);
} qn_quantized_format;

typedef struct qn_quantized {
    qn_export_job *job;
    const qn_quantized_format *format;
    qn_scheme asked;      /* bits 0: any                        */
    qn_scheme want;       /* with defaults                      */
    qn_module *m;
    uint64_t n;
} qn_quantized;

/* Lists modules (from job->arena) and decides on schemes. bits, group of `want`: defaults, replaced by the wish. QN_E_UNSUPPORTED: no graph, no config.json, no
 * linear layers; QN_E_USAGE: a wish that the format cannot hold for any of them. */
qn_code qn_quantized_open(qn_quantized *q, qn_export_job *j, const qn_quantized_format *f, const qn_scheme *want, bool bits_given, qn_err *err) QN_MUST_CHECK;
/* The same for a format with variants "intN": what is wanted follows from the job's. QN_E_USAGE names those that are known. */
qn_code qn_quantized_open_bits(qn_quantized *q, qn_export_job *j, const qn_quantized_format *f, qn_err *err) QN_MUST_CHECK;
/* The recipe of the solve, and rows of the report. */
qn_code qn_quantized_plan(qn_quantized *q, qn_recipe *r, qn_err *err) QN_MUST_CHECK;
/* qn_export_target.holds. */
qn_code qn_quantized_holds(qn_quantized *q, bool *yes, qn_err *err) QN_MUST_CHECK;
/* Looks at the codes of all modules: schemes are then what is there. QN_E_UNSUPPORTED, naming tensor and codec, for an approximation that the format cannot hold. */
qn_code qn_quantized_look(qn_quantized *q, qn_err *err) QN_MUST_CHECK;
/* After looking: writes the folder, with `config` (JSON, which failed when there was no memory) under each of these keys of config.json, and as the file `extra` unless that is
 * NULL. Releases config. */
qn_code qn_quantized_write(qn_quantized *q, const char *const *keys, unsigned n_keys, qn_textbuf *config, const char *extra, qn_err *err) QN_MUST_CHECK;

/* Groups of a row. */
static inline uint32_t qn_module_groups(const qn_module *m)
{
    return m->scheme.group >= m->cols ? 1 : (m->cols - 1) / m->scheme.group + 1;
}

/* Distinct schemes of quantized modules, the one with most modules first. Returns how many there are (cap at most). */
unsigned qn_quantized_schemes(const qn_quantized *q, qn_scheme *out, unsigned cap);
bool qn_scheme_equal(const qn_scheme *a, const qn_scheme *b);
/* Is this tensor's module quantized? NULL: no. */
const qn_module *qn_quantized_find(const qn_quantized *q, uint64_t tensor);
/* Modules of rank-2 weights that are left dense, in a JSON list: ["lm_head", …]; with "lm_head" even where it is tied. Embeddings are none. */
void qn_quantized_dense_list(const qn_quantized *q, qn_textbuf *out);

/* Bits of n codes, from the lowest of the first byte on: `bits` each. dst is zeroed. Code i is at src[i × step]. */
void qn_pack_bits(const uint8_t *src, size_t step, uint32_t n, unsigned bits, uint8_t add, uint8_t *dst);
/* A scale as dtype t (F32, F16, BF16). */
void qn_put_scale(qn_dtype t, float v, uint8_t *dst);
bool qn_scale_fits(qn_dtype t, float v);

#endif
