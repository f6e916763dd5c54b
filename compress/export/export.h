/* export.h: a checkpoint in the form that another runtime loads.
 *
 * Export is two steps. What a target needs quantized is *solved* first, by packing into a .quern (compress/pack.h) with the recipe that the target asks
 * for: so everything that holds for packing (statistics, error feedback, resuming after a kill, memory) holds here, and targets that ask
 * for the same share one solve. Then the target *writes*: it takes the codes as they stand in the .quern (codes.h), not the decoded weights, so that
 * nothing is rounded twice; what has no codes there it takes as dense tensors.
 *
 * A target is a file or two in this folder and one row in target_tab.c. */
#ifndef QN_COMPRESS_EXPORT_EXPORT_H
#define QN_COMPRESS_EXPORT_EXPORT_H

#include "analysis/graph/graph.h"
#include "compress/recipe.h"
#include "formats/source.h"

/* What the user asked for beside the target. Zero: not given. */
typedef struct qn_export_wish {
    double bits;            /* of a weight: integers of most targets, any number where types are chosen              */
    uint64_t size_bytes;    /* GGUF: types are chosen so that the file is no larger; not with bits                     */
    uint32_t group;         /* columns that share a scale; UINT32_MAX: the whole row                                  */
    int asymmetric;         /* 1 yes, −1 no                                                                        */
    const char *like;       /* GGUF: the type mix of this name, as the variant would; NULL                            */
    const char *statistics; /* path, to be named in a file's metadata; NULL: none                                     */
    uint64_t shard_bytes;   /* most bytes of one output file; 0: the target's own                                     */
} qn_export_wish;

/* What became of one tensor of the output, for the report. Strings from the job's arena. */
typedef struct qn_export_row {
    const char *name;       /* in the output                                                        */
    const char *asked, *given; /* "Q4_K", "int4 group 128", "F16": what the variant says, and what it got      */
    const char *why;        /* where given is not asked: "rows of 172 are no multiple of 256"; else NULL */
    uint64_t n_weights, n_bytes;
    bool rounded_again;     /* it was approximated before, and the target cannot hold those codes        */
} qn_export_row;

typedef struct qn_export_job {
    const qn_env *env;
    qn_source *src;         /* what is written: the .quern of the solve, or the input                             */
    qn_source *input;       /* what the user named; may be src                                                   */
    const qn_graph *graph;  /* of src; NULL when no builder knows the model: dense targets that need none still work */
    const qn_stats_file *stats; /* NULL: none; for choosing types                                              */
    const char *variant;    /* what follows the colon in --to; "" when nothing does                                 */
    const qn_export_wish *wish;
    const char *path;       /* of the output: a file, or a folder                                               */
    bool overwrite;
    qn_arena *arena;        /* lives until the report is printed                                                */
    qn_export_row *rows;    /* filled by qn_export_note                                                          */
    uint64_t n_rows, cap_rows;
    uint64_t n_bytes;       /* of all files written, set by write                                                */
    const char *notes[8];   /* what a user should know (who loads it, what was replaced): qn_export_say            */
    unsigned n_notes;
} qn_export_job;

typedef struct qn_export_target {
    const char *name;       /* "gguf"                                                                            */
    const char *summary;    /* a phrase: "llama.cpp and what is built on it"                                        */
    const char *variants;   /* for help: "f32, f16, bf16, a type (q4_k), a mix (Q4_K_M)"                            */
    const char *suffix;     /* of the output when the user names none: ".gguf"; "" for a folder                      */
    bool folder;
    /* Checks variant and wish (QN_E_USAGE, naming what is allowed; QN_E_UNSUPPORTED for a model that it cannot hold), and
     * puts into *r (empty) what has to be quantized; r stays lossless for dense variants. job->src is the input, job->path may be NULL. What most tensors get goes into
     * r->all, exceptions by qn_recipe_add with job->arena; the user's own rules come behind them and win, so write() must take what it finds. It may note rows
     * (with n_bytes as far as known): they are what a dry run prints, and are forgotten before write. */
    qn_code (*plan)(qn_export_job *j, qn_recipe *r, qn_err *err);
    /* Is all that the variant wants quantized already there, in codes that it can hold? Asked of a .quern input that holds approximations, before a solve.
     * NULL: never. */
    qn_code (*holds)(qn_export_job *j, bool *yes, qn_err *err);
    /* Writes job->src to job->path, atomically (formats/outfile.h and the writers over it; folders through compress/tmptree.h). */
    qn_code (*write)(qn_export_job *j, qn_err *err);
} qn_export_target;

extern const qn_export_target *const qn_export_targets[]; /* ended by NULL */
const qn_export_target *qn_export_target_find(const char *name, size_t n_bytes);

/* One per file. */
extern const qn_export_target qn_export_gguf, qn_export_safetensors, qn_export_compressed_tensors, qn_export_gptq, qn_export_awq, qn_export_mlx,
    qn_export_vptq, qn_export_dfloat11, qn_export_onnx, qn_export_npz, qn_export_tfjs;

/* Appends a row; strings are borrowed. */
qn_code qn_export_note(qn_export_job *j, const qn_export_row *row, qn_err *err) QN_MUST_CHECK;
/* A note of at most 300 bytes; the ninth and later are dropped. */
void qn_export_say(qn_export_job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
