/* markup.h: what XML, HTML and SVG need written otherwise. */
#ifndef QN_CLI_MARKUP_H
#define QN_CLI_MARKUP_H

#include <stddef.h>

/* & < > " in text or in an attribute; NULL for what may stand as it is. */
static inline const char *qn_markup_entity(char c)
{
    return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : NULL;
}

#endif
