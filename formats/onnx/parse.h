/* parse.h: what the parts of the ONNX reader share: one reader over one file, its arena, and the strings seen so far. */
#ifndef QN_FORMATS_ONNX_PARSE_H
#define QN_FORMATS_ONNX_PARSE_H

#include "formats/onnx/model.h"

typedef struct qn_onnx_parse {
    qn_wire wire;
    qn_arena *arena;
    const qn_alloc *alloc;
    uint64_t memory_max;  /* of the arena */
    qn_names names;
    const char **strings; /* interned */
    uint64_t n_strings, cap_strings, cap_slots;
    char text[QN_ONNX_NAME_BYTES_MAX + 1];
} qn_onnx_parse;

enum { QN_ONNX_FIELDS = 32 }; /* every field that is read has a lower number */

/* How often each field below QN_ONNX_FIELDS stands in the message. */
qn_code qn_onnx_count(qn_onnx_parse *p, qn_wire_msg m, uint32_t n[QN_ONNX_FIELDS], qn_err *err) QN_MUST_CHECK;
/* Zeroed room for n items. */
qn_code qn_onnx_take(qn_onnx_parse *p, uint64_t n, uint64_t size, void *pointer, qn_err *err) QN_MUST_CHECK;
/* The field's payload as an interned name. */
qn_code qn_onnx_name(qn_onnx_parse *p, const qn_wire_field *f, const char **out, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_intern(qn_onnx_parse *p, const char *s, const char **out, qn_err *err) QN_MUST_CHECK;
/* All strings of field `number` (n of them, as counted) as names. */
qn_code qn_onnx_name_list(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const char *const **out,
                          qn_err *err) QN_MUST_CHECK;
/* The wire type must be this one. */
qn_code qn_onnx_expect(const qn_wire_field *f, qn_wire_type type, qn_err *err) QN_MUST_CHECK;
/* All varints (out: int64_t) or fixed32 (out: float) of field `number`, packed or not. */
qn_code qn_onnx_ints(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, const int64_t **out, uint64_t *n, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_floats(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, const float **out, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* For the errors that several readers have: a field that may stand once; a file that is not what it was a moment ago (every
 * message is walked more than once: nothing may be written past what the first walk has counted). */
qn_code qn_onnx_twice(const qn_wire_field *f, qn_err *err);
qn_code qn_onnx_changed(uint64_t off, qn_err *err);
/* The next field that has this number. */
qn_code qn_onnx_next_of(qn_onnx_parse *p, qn_wire_msg *m, uint32_t number, qn_wire_field *f, qn_err *err) QN_MUST_CHECK;

qn_code qn_onnx_read_tensor(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_tensor *t, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_read_type(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_type *t, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_read_value(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_value *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_read_nodes(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const qn_onnx_node **out,
                           qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_read_attrs(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const qn_onnx_attr **out,
                           qn_err *err) QN_MUST_CHECK;
qn_code qn_onnx_read_graph(qn_onnx_parse *p, qn_wire_msg m, qn_onnx_graph *g, qn_err *err) QN_MUST_CHECK;
/* Lists the weights and gives them unique names. */
qn_code qn_onnx_list_weights(qn_onnx_parse *p, qn_onnx_model *m, qn_err *err) QN_MUST_CHECK;

#endif
