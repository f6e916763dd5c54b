/* write.h: writing GGUF files, version 3: keys, then the list of tensors, then their data, streamed.
 *
 *   open → keys … → tensors … → data … (of the tensors, one after another) → finish → close
 *
 * Keys and the list are held in memory until the first data; data are not. What is written follows the stricter side of what
 * readers ask: no key or tensor twice, tensors in the order of the list and padded, also the last. The file appears under its
 * name when it is whole and our own reader has taken it. */
#ifndef QN_FORMATS_GGUF_WRITE_H
#define QN_FORMATS_GGUF_WRITE_H

#include "formats/gguf/gguf.h"
#include "formats/outfile.h"

typedef struct qn_gguf_writer {
    qn_outfile out;
    struct qn_gguf_bytes {
        uint8_t *p;
        uint64_t n, cap;
    } keys, infos;
    uint64_t n_tensors, alignment;
    qn_arena arena;          /* names */
    struct qn_gguf_list {
        const char **items;
        uint64_t n, cap;
        qn_names table;
        qn_name_slot *slots;
        uint64_t n_slots;
    } key_names, tensor_names;
    uint64_t *tensor_bytes;  /* of each tensor */
    uint64_t cap_tensors;
    uint64_t next_off;       /* of the next tensor, from the start of the data */
    uint64_t array_left;     /* elements that the array begun last still wants */
    qn_gguf_type array_elem;
    uint64_t tensor, given;  /* the tensor that is being written, and its bytes so far */
    bool in_data;
} qn_gguf_writer;

/* Data begin, and tensors are padded, at multiples of `alignment`: a power of two, 8 … 2^20; 0: 32. Another than 32 is
 * written as the key general.alignment. */
qn_code qn_gguf_writer_open(qn_gguf_writer *w, const qn_env *env, const char *path, uint64_t alignment, bool overwrite,
                            qn_err *err) QN_MUST_CHECK;

/* A writer without a file, for keys and tensors only: how large would it be? */
void qn_gguf_writer_count(qn_gguf_writer *w, const qn_env *env);
/* Bytes of the whole file with the keys and tensors that it has now. */
uint64_t qn_gguf_writer_bytes(const qn_gguf_writer *w);

/* Keys, in any order. QN_E_USAGE: the key is there already, empty or longer than 65535 bytes, or not UTF-8. */
qn_code qn_gguf_put_u32(qn_gguf_writer *w, const char *key, uint32_t v, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_u64(qn_gguf_writer *w, const char *key, uint64_t v, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_f32(qn_gguf_writer *w, const char *key, float v, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_bool(qn_gguf_writer *w, const char *key, bool v, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_str(qn_gguf_writer *w, const char *key, const char *v, qn_err *err) QN_MUST_CHECK;
/* A number of any type, from its bits in the low end of `bits` (f64: all 64; i8: the low 8). */
qn_code qn_gguf_put_number(qn_gguf_writer *w, const char *key, qn_gguf_type type, uint64_t bits, qn_err *err) QN_MUST_CHECK;
/* An array of n elements, which are added one by one or many at a time; the next key, tensor or data wants all of them there. No
 * arrays of arrays: llama.cpp does not read them. */
qn_code qn_gguf_put_array(qn_gguf_writer *w, const char *key, qn_gguf_type elem, uint64_t n, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_array_str(qn_gguf_writer *w, const char *v, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
qn_code qn_gguf_put_array_numbers(qn_gguf_writer *w, const uint64_t *bits, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* A key of another file as it stands there, arrays of strings included. */
qn_code qn_gguf_put_copy(qn_gguf_writer *w, const qn_gguf *from, const qn_gguf_key *key, qn_err *err) QN_MUST_CHECK;

/* Lists a tensor: dims outermost first, at most 4. QN_E_USAGE: name taken or longer than ggml's 63 bytes; QN_E_UNSUPPORTED: a
 * dtype that GGUF does not have. */
qn_code qn_gguf_put_tensor(qn_gguf_writer *w, const char *name, qn_dtype dtype, const uint64_t *dims, unsigned rank,
                           qn_err *err) QN_MUST_CHECK;
/* The next bytes of the data, as many at a time as one likes, but not over the end of a tensor. Tensors without elements take
 * none and are passed over. */
qn_code qn_gguf_put_data(qn_gguf_writer *w, const void *p, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* All data are there: sync, read back. w->out.tmp can be opened, and qn_outfile_publish gives it its name. */
qn_code qn_gguf_writer_seal(qn_gguf_writer *w, qn_err *err) QN_MUST_CHECK;
/* Both in one. */
qn_code qn_gguf_writer_finish(qn_gguf_writer *w, qn_err *err) QN_MUST_CHECK;
/* Also without finish: then nothing is left. */
void qn_gguf_writer_close(qn_gguf_writer *w);

/* ggml's number of a dtype; false when it has none. The reverse of qn_gguf_dtype. */
bool qn_gguf_type_of(qn_dtype t, uint32_t *type);

#endif
