/* help.h: the command table as text for people: --help, man pages. */
#ifndef QN_CLI_HELP_H
#define QN_CLI_HELP_H

#include "cli/cli.h"

extern const char *const qn_help_checkpoints; /* what may be given where a checkpoint is wanted */

void qn_help_overview(const qn_term *t);
void qn_help_command(const qn_term *t, const qn_command *c);
/* An option's help with its default and choices worked in. */
void qn_help_option_text(const qn_option *o, char *buf, size_t n_bytes);

#endif
