/* test_config_edit.c: values of a config.json changed and added, all else byte for byte. */
#include "formats/hf/config_edit.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include <string.h>

static const struct {
    const char *from, *to; /* to NULL: QN_E_INPUT */
} cases[] = {
    {"{\"a\": 1, \"b\": 2}", "{\"a\": [7, 8], \"b\": 2, \"new\": \"x\"}"},
    {"{\n  \"b\": {\"a\": 3},\n  \"a\": \"]}\\\"\",\n  \"eps\": 1e-05, \"inf\": Infinity\n}\n",
     "{\n  \"b\": {\"a\": 3},\n  \"a\": [7, 8],\n  \"eps\": 1e-05, \"inf\": Infinity,\n  \"new\": \"x\"\n}\n"},
    {"{}", "{ \"a\": [7, 8], \"new\": \"x\"}"},
    {"{\"a\" :null}", "{\"a\" :[7, 8], \"new\": \"x\"}"},
    {"{\"a\":[1,{\"new\":2}],\"new\":true}", "{\"a\":[7, 8],\"new\":\"x\"}"},
    {"{\n\t\"text_config\": {\n\t\t\"z\": 1\n\t},\n\t\"new\": 5\n}", "{\n\t\"text_config\": {\n\t\t\"z\": 1,\n\t\t\"a\": [7, 8]\n\t},\n\t\"new\": \"x\"\n}"},
    {"{\"text_config\": {\"a\": 1}, \"a\": 2}", "{\"text_config\": {\"a\": [7, 8], \"new\": \"x\"}, \"a\": [7, 8]}"},
    {"{\"text_config\": 4, \"a\": 2}", "{\"text_config\": 4, \"a\": [7, 8], \"new\": \"x\"}"},
    {"[1]", NULL},
    {"{\"a\": 1", NULL},
    {"{\"a\": 1} x", NULL},
};

Test(config_edit, texts)
{
    static const qn_config_change changes[] = {{"a", "[7, 8]"}, {"new", "\"x\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_textbuf out = {.alloc = qt_made_env(1)->alloc};
        qn_err err = {0};
        const qn_code rc = qn_config_edit(cases[i].from, strlen(cases[i].from), changes, 2, &out, &err);
        cr_assert_eq(rc, cases[i].to ? QN_OK : QN_E_INPUT, "%s: %s", cases[i].from, err.text);
        if (cases[i].to)
            cr_assert_str_eq(out.text, cases[i].to);
        qn_mem_put(out.alloc, out.text);
    }
}
