/* build_onnx_attr.c: attributes of ONNX nodes as attributes of a graph's. */
#include "analysis/graph/onnx_build.h"
#include "base/err.h"
#include <inttypes.h>
#include <string.h>

const qn_onnx_attr *qn_onnx_attr_resolve(const qn_onnx_attr *a, const qn_onnx_call *call)
{
    while (a && a->ref) {
        const char *name = a->ref;
        const qn_onnx_attr *found = NULL;
        if (!call)
            return NULL;
        for (uint32_t i = 0; i < call->node->n_attrs && !found; i++)
            if (!strcmp(call->node->attrs[i].name, name))
                found = &call->node->attrs[i];
        if (found) { /* as the caller has it, who may be a function himself */
            call = call->up;
            a = found;
            continue;
        }
        for (uint32_t i = 0; i < call->fn->n_defaults && !found; i++)
            if (!strcmp(call->fn->defaults[i].name, name))
                found = &call->fn->defaults[i];
        return found && !found->ref ? found : NULL;
    }
    return a;
}

static qn_code list_floats(qn_graph *g, const qn_onnx_attr *a, qn_attr *out, qn_err *err)
{
    double *list = qn_arena_get(&g->arena, (a->n + 1) * sizeof *list, 8, err);
    if (!list)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < a->n; i++)
        list[i] = (double)a->v.floats[i];
    out->type = QN_ATTR_FLOATS;
    out->v.floats = list;
    out->n = (uint32_t)a->n;
    return QN_OK;
}

static qn_code list_strings(qn_graph *g, const qn_onnx_attr *a, qn_attr *out, bool *there, qn_err *err)
{
    const char **list = qn_arena_get(&g->arena, (a->n + 1) * sizeof *list, 8, err);
    if (!list)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < a->n; i++) {
        list[i] = a->v.strings[i].p;
        *there = *there && list[i];
    }
    out->type = QN_ATTR_STRINGS;
    out->v.strings = list;
    out->n = (uint32_t)a->n;
    return QN_OK;
}

qn_code qn_onnx_build_attr(qn_onnx_build *b, qn_graph *g, const qn_onnx_node *d, const char *name, const qn_onnx_attr *a, qn_attr *out,
                           bool *there, qn_err *err)
{
    *out = (qn_attr){.name = name};
    *there = true;
    if (a->n > UINT32_MAX / 16)
        return QN_FAIL(err, QN_E_UNSUPPORTED, d->off, "attribute '%s' of node '%s' is a list of %" PRIu64, name, d->name, a->n);
    switch ((qn_onnx_attr_type)a->type) {
    case QN_ONNX_ATTR_INT:
        out->type = QN_ATTR_INT;
        out->v.i = a->v.i;
        return QN_OK;
    case QN_ONNX_ATTR_FLOAT:
        out->type = QN_ATTR_FLOAT;
        out->v.f = (double)a->v.f;
        return QN_OK;
    case QN_ONNX_ATTR_STRING:
        out->type = QN_ATTR_STRING;
        *there = a->n && a->v.strings->p;
        out->v.s = *there ? a->v.strings->p : "";
        return QN_OK;
    case QN_ONNX_ATTR_INTS:
        out->type = QN_ATTR_INTS;
        out->v.ints = a->v.ints;
        out->n = (uint32_t)a->n;
        return QN_OK;
    case QN_ONNX_ATTR_FLOATS: return list_floats(g, a, out, err);
    case QN_ONNX_ATTR_STRINGS: return list_strings(g, a, out, there, err);
    case QN_ONNX_ATTR_TENSOR: {
        qn_array *t = qn_arena_get(&g->arena, sizeof *t, 8, err);
        if (!t)
            return QN_E_MEMORY;
        *there = false;
        out->type = QN_ATTR_TENSOR;
        out->v.tensor = t;
        return a->n ? qn_onnx_build_content(b, g, a->v.tensors, t, there, err) : QN_OK;
    }
    default:
        *there = false;
        return QN_OK;
    }
}

/* ---- the types that ONNX gives its attributes ---- */

struct kind {
    const char *name;
    uint8_t type;
};

/* A name has one type in every operator of the default domain that has it, but `value` (a number in Pad up to version 10) and
 * `clip`/`activation_…` which only recurrences have. */
static const struct kind kinds[] = {
    {"activation_alpha", QN_ATTR_FLOATS}, {"activation_beta", QN_ATTR_FLOATS}, {"activations", QN_ATTR_STRINGS},
    {"align_corners", QN_ATTR_INT}, {"allowzero", QN_ATTR_INT}, {"alpha", QN_ATTR_FLOAT}, {"approximate", QN_ATTR_STRING},
    {"auto_pad", QN_ATTR_STRING}, {"axes", QN_ATTR_INTS}, {"axis", QN_ATTR_INT}, {"batch_axis", QN_ATTR_INT},
    {"batch_dims", QN_ATTR_INT}, {"beta", QN_ATTR_FLOAT}, {"bias", QN_ATTR_FLOAT}, {"block_size", QN_ATTR_INT},
    {"blocksize", QN_ATTR_INT}, {"body", QN_ATTR_GRAPH}, {"ceil_mode", QN_ATTR_INT}, {"center_point_box", QN_ATTR_INT},
    {"clip", QN_ATTR_FLOAT}, {"coordinate_transformation_mode", QN_ATTR_STRING}, {"count_include_pad", QN_ATTR_INT},
    {"cubic_coeff_a", QN_ATTR_FLOAT}, {"detect_negative", QN_ATTR_INT}, {"detect_positive", QN_ATTR_INT},
    {"dilations", QN_ATTR_INTS}, {"direction", QN_ATTR_STRING}, {"dtype", QN_ATTR_INT}, {"else_branch", QN_ATTR_GRAPH},
    {"epsilon", QN_ATTR_FLOAT}, {"equation", QN_ATTR_STRING}, {"exclude_outside", QN_ATTR_INT}, {"exclusive", QN_ATTR_INT},
    {"extrapolation_value", QN_ATTR_FLOAT}, {"fmod", QN_ATTR_INT}, {"gamma", QN_ATTR_FLOAT}, {"group", QN_ATTR_INT},
    {"hidden_size", QN_ATTR_INT}, {"high", QN_ATTR_FLOAT}, {"input_forget", QN_ATTR_INT}, {"is_causal", QN_ATTR_INT},
    {"k", QN_ATTR_INT}, {"keepdims", QN_ATTR_INT}, {"kernel_shape", QN_ATTR_INTS}, {"lambd", QN_ATTR_FLOAT},
    {"largest", QN_ATTR_INT}, {"linear_before_reset", QN_ATTR_INT}, {"low", QN_ATTR_FLOAT}, {"mean", QN_ATTR_FLOAT},
    {"mode", QN_ATTR_STRING}, {"momentum", QN_ATTR_FLOAT}, {"nearest_mode", QN_ATTR_STRING}, {"num_groups", QN_ATTR_INT},
    {"num_heads", QN_ATTR_INT}, {"num_outputs", QN_ATTR_INT}, {"num_scan_inputs", QN_ATTR_INT}, {"onesided", QN_ATTR_INT},
    {"output_height", QN_ATTR_INT}, {"output_padding", QN_ATTR_INTS}, {"output_shape", QN_ATTR_INTS},
    {"output_width", QN_ATTR_INT}, {"p", QN_ATTR_INT}, {"padding_mode", QN_ATTR_STRING}, {"pads", QN_ATTR_INTS},
    {"perm", QN_ATTR_INTS}, {"pooled_shape", QN_ATTR_INTS}, {"ratio", QN_ATTR_FLOAT}, {"reduction", QN_ATTR_STRING},
    {"reverse", QN_ATTR_INT}, {"sampling_ratio", QN_ATTR_INT}, {"saturate", QN_ATTR_INT}, {"scale", QN_ATTR_FLOAT},
    {"scales", QN_ATTR_FLOATS}, {"scan_input_axes", QN_ATTR_INTS}, {"scan_input_directions", QN_ATTR_INTS},
    {"scan_output_axes", QN_ATTR_INTS}, {"scan_output_directions", QN_ATTR_INTS}, {"select_last_index", QN_ATTR_INT}, {"size", QN_ATTR_INT}, {"sorted", QN_ATTR_INT}, {"spatial_scale", QN_ATTR_FLOAT},
    {"split", QN_ATTR_INTS}, {"starts", QN_ATTR_INTS}, {"ends", QN_ATTR_INTS}, {"stash_type", QN_ATTR_INT},
    {"storage_order", QN_ATTR_INT}, {"strides", QN_ATTR_INTS}, {"then_branch", QN_ATTR_GRAPH}, {"time_axis", QN_ATTR_INT},
    {"to", QN_ATTR_INT}, {"transA", QN_ATTR_INT}, {"transB", QN_ATTR_INT}, {"upper", QN_ATTR_INT}, {"value_float", QN_ATTR_FLOAT},
    {"value_floats", QN_ATTR_FLOATS}, {"value_int", QN_ATTR_INT}, {"value_ints", QN_ATTR_INTS},
};

int qn_onnx_attr_type_of(const char *op_type, const char *attr)
{
    if (!strcmp(attr, "value"))
        return !strcmp(op_type, "Pad") ? QN_ATTR_FLOAT : !strcmp(op_type, "ConstantOfShape") ? QN_ATTR_TENSOR : -1;
    if ((!strcmp(op_type, "Clip") || !strcmp(op_type, "HardTanh")) && (!strcmp(attr, "min") || !strcmp(attr, "max")))
        return QN_ATTR_FLOAT;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcmp(kinds[i].name, attr))
            return kinds[i].type;
    return -1;
}
