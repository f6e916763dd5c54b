/* pattern.c: see pattern.h. */
#include "base/pattern.h"
#include "base/err.h"
#include <fnmatch.h>
#include <string.h>

qn_code qn_pattern_open(qn_pattern *p, const char *text, qn_err *err)
{
    *p = (qn_pattern){.text = text};
    if (strncmp(text, "re:", 3) != 0)
        return QN_OK;
    const int bad = regcomp(&p->regex, text + 3, REG_EXTENDED | REG_NOSUB);
    if (bad) {
        char why[160];
        regerror(bad, &p->regex, why, sizeof why);
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "'%s': %s", text, why);
    }
    p->is_regex = true;
    return QN_OK;
}

bool qn_pattern_match(const qn_pattern *p, const char *name)
{
    return p->is_regex ? regexec(&p->regex, name, 0, NULL, 0) == 0 : fnmatch(p->text, name, 0) == 0;
}

void qn_pattern_close(qn_pattern *p)
{
    if (p->is_regex)
        regfree(&p->regex);
    *p = (qn_pattern){0};
}
