/* settings.h: what a quantizer can be told, and its written form: "bits=3 group=64 asymmetric".
 *
 * The rows are in settings_tmpl.h. A setting that was not given is zero; a quantizer then has its own default. Names are those of
 * recipes; the command line's options are called the same. */
#ifndef QN_COMPRESS_SETTINGS_H
#define QN_COMPRESS_SETTINGS_H

#include "base/alloc.h"

typedef struct qn_quant_settings {
    double bits;      /* per weight: whole numbers for a grid, what the whole payload takes for ect, vq */
    uint32_t group;   /* grid: columns that share a scale; UINT32_MAX: a whole row                  */
    bool asymmetric;  /* grid: a zero point for each group                                          */
    double gain;      /* grid, ect: scales are multiplied by it after the search                    */
    bool columnwise;  /* grid: a group is rows of one column                                      */
    bool packed;      /* grid: codes as kernels multiply with them, though they could be smaller  */
    bool keepzero;    /* grid: zero is a level                                                    */
    uint32_t scalebits; /* grid: significant bits of a scale                                      */
    uint32_t states;  /* ect: of the trellis                                                        */
    uint32_t vector;  /* vq: rows of a vector                                                       */
    bool vptq;        /* vq: one book, and scales of columns alone, as VPTQ's files hold them       */
    bool shells;      /* pvq: the norm of each group is told, instead of a length                   */
    uint32_t window;  /* trellis: bits that a weight is a function of                               */
    uint32_t sweeps;  /* over all columns after the pass with feedback                              */
} qn_quant_settings;

typedef enum qn_setting_kind {
    QN_SETTING_REAL,  /* double, least … most                                   */
    QN_SETTING_COUNT, /* uint32_t, least … most                                 */
    QN_SETTING_WIDTH, /* uint32_t, least … most, or "row", which is UINT32_MAX   */
    QN_SETTING_FLAG   /* bool: "yes" or "no"                                    */
} qn_setting_kind;

typedef struct qn_setting {
    const char *name;
    qn_setting_kind kind;
    size_t at; /* offsetof in qn_quant_settings */
    double least, most;
    const char *codecs; /* separated by spaces; "": all */
} qn_setting;

enum {
#define QN_SETTING(field, name, kind, least, most, codecs, arg, help) QN_SETTING_AT_##field,
#include "compress/settings_tmpl.h"
#undef QN_SETTING
    QN_N_SETTINGS
};
extern const qn_setting qn_setting_tab[QN_N_SETTINGS];

/* NULL: there is none of that name. */
const qn_setting *qn_setting_find(const char *name);

/* Reads one value into *set. QN_E_USAGE: "NAME: found …, allowed are …". */
qn_code qn_setting_read(const qn_setting *s, const char *text, qn_quant_settings *set, qn_err *err) QN_MUST_CHECK;

/* Takes over whatever was given in `over`. Something that was turned on can be turned off only by a later reading. */
void qn_settings_merge(qn_quant_settings *set, const qn_quant_settings *over);

bool qn_settings_equal(const qn_quant_settings *a, const qn_quant_settings *b);

/* QN_E_USAGE when something was given that the codec does not know. */
qn_code qn_settings_check(const qn_quant_settings *set, const char *codec, qn_err *err) QN_MUST_CHECK;

/* Drops what the codec does not know. */
void qn_settings_keep(qn_quant_settings *set, const char *codec);

/* " bits=3 group=64": what was given, each with a space in front. Cut off (and ended by NUL) when it does not fit; returns its
 * whole length. */
size_t qn_settings_write(const qn_quant_settings *set, char *buf, size_t n_bytes);

#endif
