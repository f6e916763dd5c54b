/* view.h: the tensors of a GGUF file as those of the Hugging Face folder that it was made from: their names, experts apart, the rows of llama's q
 * and k in their first order, gemma's norms without the 1. So a model can be compared with its conversion, tensor by tensor.
 *
 * What the folder stores turned (gpt2) keeps the shape of the file: it is not compared. */
#ifndef QN_ANALYSIS_GATE_VIEW_H
#define QN_ANALYSIS_GATE_VIEW_H

#include "formats/source.h"

/* Is it a GGUF file, or a .quern that holds one? */
bool qn_is_gguf(qn_source *s);
/* A source over `s`, which must outlive it; tensors only. like: what it will be compared with: a head of its own that only the other has, in a model whose
 * GGUF file shares the embedding, is given the embedding. */
qn_code qn_gguf_view_open(const qn_env *env, qn_source *s, const qn_source *like, qn_source **out, qn_err *err) QN_MUST_CHECK;
/* Tensor of the source beneath that tensor t of a view lies in. */
uint64_t qn_gguf_view_origin(const qn_source *view, uint64_t t);

#endif
