/* token_input.h: what `quern tokenize` reads: a text, or ids. */
#ifndef QN_CLI_TOKEN_INPUT_H
#define QN_CLI_TOKEN_INPUT_H

#include "analysis/tokenize/tokenizer.h"
#include "cli/cli.h"

/* A file's bytes, or those of standard input for NULL or "-". Released with qn_mem_put. */
qn_code qn_token_input_bytes(qn_cli *cli, const char *path, char **bytes, uint64_t *n, qn_err *err) QN_MUST_CHECK;
/* Ids out of bytes: a .npy array of integers in one dimension when `path` ends so, else numbers between spaces, commas,
 * line breaks and brackets. `bytes` belongs to `path`, or to the command line when that is NULL. */
qn_code qn_token_input_ids(qn_cli *cli, const char *path, const char *bytes, uint64_t n, qn_tokens *out, qn_err *err) QN_MUST_CHECK;
/* Whether the name is that of a numpy array. */
bool qn_token_input_is_npy(const char *path);

#endif
