/* target_tab.c: one row per target, in the order of the overview. */
#include "compress/export/export.h"

const qn_export_target *const qn_export_targets[] = {
    &qn_export_gguf,
    &qn_export_safetensors,
    &qn_export_compressed_tensors,
    &qn_export_gptq,
    &qn_export_awq,
    &qn_export_mlx,
    &qn_export_vptq,
    &qn_export_dfloat11,
    &qn_export_onnx,
    &qn_export_npz,
    NULL,
};
