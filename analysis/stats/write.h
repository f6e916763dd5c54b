/* write.h: writing a .qstats file, block by block.
 *
 * Everything goes to OUT.partial, which is a valid file after each checkpoint: a run that was killed is resumed by opening the
 * writer again, which drops what stands behind the last good checkpoint and says how many there are. The name OUT is given
 * at the end, when the whole file has been synced and read back. */
#ifndef QN_ANALYSIS_STATS_WRITE_H
#define QN_ANALYSIS_STATS_WRITE_H

#include "analysis/stats/file.h"
#include "base/env.h"
#include "base/names.h"

typedef struct qn_stats_write_options {
    bool overwrite; /* OUT may be there                                                            */
    bool restart;   /* begin anew whatever OUT.partial is                                          */
    bool resumable; /* after a failure the partial stays when it holds a checkpoint. Else it goes, is named
                     * OUT.quern-export, and what a killed run has left of that name is replaced      */
} qn_stats_write_options;

typedef struct qn_stats_writer qn_stats_writer;

/* Data of one input. Arrays have in->n elements; those of parts that in->parts leaves out are NULL. */
typedef struct qn_stats_data {
    const double *sum_sq, *sum, *sum_abs;
    const float *min, *max;
    const double *const *outputs; /* one array for each name, of its n_outputs; may be NULL when all have none */
    /* Row i of the upper triangle: H_ii, H_i,i+1, … (n − i values). Called for i = 0, 1, … in order. */
    qn_code (*h_row)(void *ctx, uint32_t i, float *dst, qn_err *err);
    void *ctx;
} qn_stats_data;

/* QN_E_USAGE: OUT is there, a folder, or being written by another run; OUT.partial is not ours, or from a run with other
 * model, tokenizer or settings (unless `restart`). Strings and arrays of *meta are copied. */
qn_code qn_stats_writer_open(qn_stats_writer **out, const qn_env *env, const char *path, const qn_stats_meta *meta,
                             const qn_stats_write_options *opt, qn_err *err) QN_MUST_CHECK;
/* Checkpoints that OUT.partial held already: as many blocks need not be measured again. */
uint32_t qn_stats_writer_done(const qn_stats_writer *w);
/* Appends one input. Digests and off of *in are not read. QN_E_USAGE for a name that is there already; QN_E_UNSUPPORTED for
 * a value of H beyond f32. After a failure the writer can only be closed. */
qn_code qn_stats_writer_add(qn_stats_writer *w, const qn_stats_input *in, const qn_stats_data *data, qn_err *err) QN_MUST_CHECK;
/* Appends what an error in one weight costs; its input has been appended, to this segment or one before. Names are copied. */
qn_code qn_stats_writer_add_cost(qn_stats_writer *w, const qn_stats_cost *c, qn_err *err) QN_MUST_CHECK;
/* Opens for reading what the last checkpoint made safe, also what an earlier run has left: a file that is not complete. Closed by the caller. */
qn_code qn_stats_writer_read(const qn_stats_writer *w, qn_stats_file *f, qn_err *err) QN_MUST_CHECK;
/* What was appended is safe on the disk when this returns: the end of a block. */
qn_code qn_stats_writer_checkpoint(qn_stats_writer *w, qn_err *err) QN_MUST_CHECK;
/* The last segment, with the final meta (NULL: as opened; model, tokenizer and settings must be the same), then the name. */
qn_code qn_stats_writer_finish(qn_stats_writer *w, const qn_stats_meta *meta, qn_err *err) QN_MUST_CHECK;
/* Also without finish: then OUT is untouched, and OUT.partial stays or goes as the options say. NULL is fine. */
void qn_stats_writer_close(qn_stats_writer *w);

#endif
