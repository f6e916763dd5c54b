/* config_edit.h: a config.json with some values changed and everything else as it stands: order, spacing, numbers, unknown keys. */
#ifndef QN_FORMATS_HF_CONFIG_EDIT_H
#define QN_FORMATS_HF_CONFIG_EDIT_H

#include "base/textbuf.h"

typedef struct qn_config_change {
    const char *key;
    const char *json; /* its new value, as JSON text */
} qn_config_change;

/* Sets keys of the configuration. Where the model's keys are nested in "text_config", a key is changed there and outside, wherever it
 * stands; one that stands nowhere is added behind the last of text_config, else of the whole. Keys must be all different. out: empty, with
 * its allocator. QN_E_INPUT for what is no JSON object. */
qn_code qn_config_edit(const char *text, uint64_t n_bytes, const qn_config_change *c, uint32_t n, qn_textbuf *out, qn_err *err) QN_MUST_CHECK;

#endif
