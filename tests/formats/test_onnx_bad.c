/* test_onnx_bad.c: malformed ONNX files, each with the error that it must give. Files are written as in tests/support/proto.h;
 * '^' marks the byte at which the error must be reported. */
#include "formats/source.h"
#include "base/num.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define HEAD    "#1=8 @8{#2=13} "
#define G(x)    HEAD "@7{" x "}"                     /* a graph       */
#define T(x)    G("@5{" x "}")                       /* an initializer */
#define W       "#1=2 #2=1 @8{'w'} "                 /* w: FLOAT [2]   */
#define N(x)    G("@1{" x "}")                       /* a node         */
#define A(x)    N("@3{'n'} @4{'Op'} @5{" x "}")      /* an attribute   */
#define EXT(x)  T("^" W x "#14=1")                   /* external data  */
#define KV(k, v) "@13{@1{'" k "'} @2{'" v "'}} "

static const struct row {
    const char *name, *file;
    qn_code code;
    const char *tensor, *text;
} rows[] = {
    /* the wire */
    {"empty file", "^", QN_E_INPUT, "", "it is empty"},
    {"field number 0", HEAD "^00 00", QN_E_INPUT, "", "field number 0: 1 to 2^29"},
    {"field number 2^29", HEAD "^8080808010 00", QN_E_INPUT, "", "field number 536870912"},
    {"field number 2^60", HEAD "^8080808080808080800100", QN_E_INPUT, "", "field number 1152921504606846976"},
    {"group begins", HEAD "^7b 7c", QN_E_INPUT, "", "field 15: wire type 3, a group"},
    {"group ends", HEAD "^7c", QN_E_INPUT, "", "field 15: wire type 4, a group"},
    {"wire type 6", HEAD "^7e", QN_E_INPUT, "", "wire type 6, a type that does not exist"},
    {"wire type 7", HEAD "^7f", QN_E_INPUT, "", "wire type 7, a type that does not exist"},
    {"tag cut", HEAD "^80", QN_E_INPUT, "", "cut by the end"},
    {"tag of 11 bytes", HEAD "^808080808080808080808001", QN_E_INPUT, "", "more than 10 bytes"},
    {"varint of 11 bytes", "08 ^8080808080808080808001", QN_E_INPUT, "", "more than 10 bytes"},
    {"varint of 65 bits", "08 ^ffffffffffffffffff02", QN_E_INPUT, "", "or 64 bits"},
    {"varint missing", HEAD "28^", QN_E_INPUT, "", "a varint is missing"},
    {"varint cut", HEAD "28 ^ff", QN_E_INPUT, "", "cut by the end"},
    {"length missing", HEAD "3a^", QN_E_INPUT, "", "a varint is missing"},
    {"length one too much", HEAD "^3a 03 12 00", QN_E_INPUT, "", "field 7: 3 bytes long, 2 are left"},
    {"length 2^63", HEAD "^3a 80808080808080808001", QN_E_INPUT, "", "9223372036854775808 bytes long"},
    {"length 2^64-1", HEAD "^3a ffffffffffffffffff01", QN_E_INPUT, "", "18446744073709551615 bytes long"},
    {"fixed32 cut", HEAD "^7d 000000", QN_E_INPUT, "", "field 15: 4 bytes long, 3 are left"},
    {"fixed64 cut", HEAD "^79 00000000000000", QN_E_INPUT, "", "field 15: 8 bytes long, 7 are left"},
    {"inner length leaves its message", HEAD "3a 04 ^2a 09 08 02 @15{z20}", QN_E_INPUT, "", "field 5: 9 bytes long, 2 are left"},
    {"inner varint leaves its message", HEAD "3a 02 50 ^80 28 01", QN_E_INPUT, "", "cut by the end of its message"},
    /* the model */
    {"no graph", HEAD "^", QN_E_INPUT, "", "it has no graph"},
    {"graph twice", HEAD "@7{} ^@7{}", QN_E_INPUT, "", "field 7 stands twice"},
    {"graph a varint", HEAD "^#7=1", QN_E_INPUT, "", "wire type 0 where a message is expected"},
    {"ir_version missing", "^@8{#2=13} @7{}", QN_E_INPUT, "", "ir_version 0: 1 to 99"},
    {"ir_version negative", "^#1=-1 @7{}", QN_E_INPUT, "", "ir_version -1"},
    {"ir_version a string", "^@1{'8'} @7{}", QN_E_INPUT, "", "wire type 2 found, 0 expected"},
    {"producer not UTF-8", HEAD "^@2{ff} @7{}", QN_E_INPUT, "", "not UTF-8"},
    {"producer with NUL", HEAD "^@2{'a' 00 'b'} @7{}", QN_E_INPUT, "", "has a NUL inside"},
    {"producer of 5000 bytes", HEAD "^@2{r500('0123456789')} @7{}", QN_E_INPUT, "", "a name of 5000 bytes, at most 4096"},
    {"opset version a string", "#1=8 @8{^@2{'13'}} @7{}", QN_E_INPUT, "", "wire type 2 found, 0 expected"},
    {"function without a name", HEAD "@7{} @25{^@7{@4{'Op'}}}", QN_E_INPUT, "", "a function without a name"},
    /* nodes and attributes */
    {"node a varint", G("^#1=1"), QN_E_INPUT, "", "wire type 0 where a message is expected"},
    {"node without op_type", N("^@3{'n'}"), QN_E_INPUT, "n", "a node without op_type"},
    {"node input a number", N("@4{'Op'} ^#1=1"), QN_E_INPUT, "", "wire type 0 found, 2 expected"},
    {"attribute without a name", A("^#3=1"), QN_E_INPUT, "n", "an attribute without a name"},
    {"attribute of type 15", A("@1{'a'} ^#20=15"), QN_E_UNSUPPORTED, "n", "attribute type 15 is not known"},
    {"attribute of two types", A("^@1{'a'} #3=1 %2=0"), QN_E_INPUT, "n", "attribute 'a' of type 1 has a value in field 3"},
    {"attribute of another type", A("^@1{'a'} #3=1 #20=7"), QN_E_INPUT, "n", "attribute 'a' of type 7 has a value in field 3"},
    {"attribute with two graphs", A("^@1{'a'} @6{} @6{}"), QN_E_INPUT, "n", "field 6 stands twice"},
    {"attribute int as bytes", A("@1{'a'} ^@3{01}"), QN_E_INPUT, "n", "wire type 2 found, 0 expected"},
    {"packed floats of 5 bytes", A("@1{'a'} ^@7{z5}"), QN_E_INPUT, "n", "5 bytes are no whole number of values"},
    {"packed ints cut", A("@1{'a'} @8{01 ^80}"), QN_E_INPUT, "n", "cut by the end"},
    {"error inside a subgraph", A("@1{'a'} @6{@5{^" W "}}"), QN_E_INPUT, "w", "has no data"},
    /* values and types */
    {"value type twice", G("@11{@1{'x'} @2{} ^@2{}}"), QN_E_INPUT, "", "field 2 stands twice"},
    {"type of two kinds", G("@11{@1{'x'} @2{@1{} ^@4{}}}"), QN_E_INPUT, "", "a type of two kinds"},
    {"shape twice", G("@11{@1{'x'} @2{@1{#1=1 @2{} ^@2{}}}}"), QN_E_INPUT, "", "field 2 stands twice"},
    {"shape of 17 dimensions", G("@11{@1{'x'} @2{@1{#1=1 @2{^r17(@1{#1=1})}}}}"), QN_E_INPUT, "", "17 dimensions: at most 16"},
    /* tensors */
    {"initializer without a name", G("^@5{#1=2 #2=1 @9{z8}}"), QN_E_INPUT, "", "an initializer without a name"},
    {"name twice in a graph", G("@5{" W "@9{z8}} @5{^" W "@9{z8}}"), QN_E_INPUT, "w", "two tensors of one graph"},
    {"constant of an initializer's name", G("@5{" W "@9{z8}} @1{@2{'w'} @4{'Constant'} @5{@1{'value'} @5{^" W "@9{z8}}}}"),
     QN_E_INPUT, "w", "two tensors of one graph"},
    {"data_type missing", T("^#1=2 @8{'w'} @9{z8}"), QN_E_INPUT, "w", "data_type is missing"},
    {"data_type 27", T("^#1=2 #2=27 @8{'w'} @9{z8}"), QN_E_UNSUPPORTED, "w", "data_type 27 is not known"},
    {"data_type -1", T("^#1=2 #2=-1 @8{'w'} @9{z8}"), QN_E_UNSUPPORTED, "w", "data_type 18446744073709551615 is not known"},
    {"segment", T(W "^@3{#1=0 #2=1} @9{z8}"), QN_E_UNSUPPORTED, "w", "cut into segments"},
    {"no data", T("^" W), QN_E_INPUT, "w", "has no data: dims need 2 elements"},
    {"scalar without data", T("^#2=1 @8{'w'}"), QN_E_INPUT, "w", "has no data: dims need 1 elements"},
    {"raw too short", T("^" W "@9{z7}"), QN_E_INPUT, "w", "raw_data of 7 bytes: dims and data_type need 8"},
    {"raw too long", T("^" W "@9{z9}"), QN_E_INPUT, "w", "raw_data of 9 bytes: dims and data_type need 8"},
    {"raw twice", T(W "@9{z8} ^@9{z8}"), QN_E_INPUT, "w", "field 9 stands twice"},
    {"raw a fixed64", T(W "^&9=1"), QN_E_INPUT, "w", "wire type 1 found, 2 expected"},
    {"raw and values", T("^" W "@9{z8} @4{z8}"), QN_E_INPUT, "w", "its data stand in 2 places"},
    {"values of two kinds", T("^" W "@4{z8} @10{z8}"), QN_E_INPUT, "w", "its data stand in 2 places"},
    {"raw and external", T("^" W "@9{z8} " KV("location", "d") "#14=1"), QN_E_INPUT, "w", "its data stand in 2 places"},
    {"values in the wrong field", T("^" W "@7{0102}"), QN_E_INPUT, "w", "values of FLOAT are in field 7: it holds them in field 4"},
    {"packed floats of 7 bytes", T(W "@4{^z7}"), QN_E_INPUT, "w", "7 bytes are no whole number of values"},
    {"one float too few", T("^" W "@4{z4}"), QN_E_INPUT, "w", "1 values in field 4: dims and data_type need 2"},
    {"one float too many", T("^" W "%4=1 %4=2 %4=3"), QN_E_INPUT, "w", "3 values in field 4: dims and data_type need 2"},
    {"float as a varint", T(W "^#4=1"), QN_E_INPUT, "w", "wire type 0 found, 5 expected"},
    {"int8 of 128", T("#1=1 #2=3 @8{'w'} @5{^8001}"), QN_E_INPUT, "w", "value 128: INT8 has -128 to 127"},
    {"uint8 of -1", T("#1=1 #2=2 @8{'w'} ^#5=-1"), QN_E_INPUT, "w", "value -1: UINT8 has 0 to 255"},
    {"bool of 2", T("#1=1 #2=9 @8{'w'} ^#5=2"), QN_E_INPUT, "w", "value 2: BOOL has 0 to 1"},
    {"float16 of 65536", T("#1=1 #2=10 @8{'w'} ^#5=65536"), QN_E_INPUT, "w", "value 65536: FLOAT16 has 0 to 65535"},
    {"int32 of 2^31", T("#1=1 #2=6 @8{'w'} ^#5=2147483648"), QN_E_INPUT, "w", "value 2147483648: INT32"},
    {"uint32 of 2^32", T("#1=1 #2=12 @8{'w'} ^#11=4294967296"), QN_E_INPUT, "w", "value 4294967296: UINT32"},
    {"int64 values cut", T("#1=2 #2=7 @8{'w'} @7{01 ^ff}"), QN_E_INPUT, "w", "cut by the end"},
    {"int4 with too many bytes", T("^#1=3 #2=22 @8{'w'} @9{z3}"), QN_E_INPUT, "w", "raw_data of 3 bytes: dims and data_type need 2"},
    {"strings in raw_data", T("^#1=1 #2=8 @8{'w'} @9{'x'}"), QN_E_INPUT, "w", "raw_data cannot hold strings"},
    {"one string too few", T("^#1=2 #2=8 @8{'w'} @6{'x'}"), QN_E_INPUT, "w", "1 values in field 6"},
    {"dimension negative", T("^#1=-2 #2=1 @8{'w'} @9{z8}"), QN_E_INPUT, "w", "dimension -2: 0 to 2^48"},
    {"dimension 2^48+1", T("^#1=281474976710657 #2=1 @8{'w'}"), QN_E_INPUT, "w", "dimension 281474976710657"},
    {"17 dimensions", T("^r17(#1=1) #2=1 @8{'w'} @9{z4}"), QN_E_INPUT, "w", "17 dimensions: at most 16"},
    {"product wraps to 0", T("^#1=4294967296 #1=4294967296 #2=1 @8{'w'}"), QN_E_INPUT, "w", "its size overflows"},
    {"bytes wrap", T("^#1=281474976710656 #1=16384 #2=11 @8{'w'}"), QN_E_INPUT, "w", "its size overflows"},
    {"zero dimension beside bytes", T("^#1=0 #1=281474976710656 #2=1 @8{'w'} @9{z8}"), QN_E_INPUT, "w", "need 0"},
    {"dims packed and cut", T("@8{'w'} @1{^80} #2=1"), QN_E_INPUT, "w", "cut by the end"},
    {"sparse initializer", G("^@15{@1{" W "@9{z8}} @2{#2=7 @8{'i'}} #3=9}"), QN_E_UNSUPPORTED, "w", "a sparse initializer"},
    /* external data, before any file is touched */
    {"location 2", T(W "^#14=2"), QN_E_INPUT, "w", "data_location 2: 0 and 1"},
    {"external_data of a tensor that is inside", T("^" W KV("location", "d")), QN_E_INPUT, "w", "without a data_location"},
    {"location missing", EXT(KV("offset", "0")), QN_E_INPUT, "w", "location is missing"},
    {"location twice", T(W KV("location", "d") "^" KV("location", "e") "#14=1"), QN_E_INPUT, "w", "'location' stands twice"},
    {"location empty", EXT(KV("location", "")), QN_E_INPUT, "w", "external_data in ''"},
    {"location above", EXT(KV("location", "../d")), QN_E_INPUT, "w", "external_data in '../d'"},
    {"location above, inside", EXT(KV("location", "a/../../d")), QN_E_INPUT, "w", "a relative path"},
    {"location absolute", EXT(KV("location", "/etc/passwd")), QN_E_INPUT, "w", "'/etc/passwd': a relative path"},
    {"location with ./", EXT(KV("location", "./d")), QN_E_INPUT, "w", "a relative path"},
    {"location with backslash", EXT(KV("location", "..\\d")), QN_E_INPUT, "w", "a relative path"},
    {"location a folder", EXT(KV("location", "d/")), QN_E_INPUT, "w", "a relative path"},
    {"location the model", EXT(KV("location", "m.onnx")), QN_E_INPUT, "w", "another file"},
    {"location with NUL", T(W "@13{@1{'location'} ^@2{'d' 00}} #14=1"), QN_E_INPUT, "w", "NUL inside"},
    {"location drives the terminal", EXT("@13{@1{'location'} @2{1b'[2J'}} "), QN_E_INPUT, "w", "\\x1b[2J"},
    {"offset negative", EXT(KV("location", "d") KV("offset", "-1")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"offset in hex", EXT(KV("location", "d") KV("offset", "0x10")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"offset with space", EXT(KV("location", "d") KV("offset", " 1")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"offset empty", EXT(KV("location", "d") KV("offset", "")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"offset 2^64", EXT(KV("location", "d") KV("offset", "18446744073709551616")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"length 2^63", EXT(KV("location", "d") KV("length", "9223372036854775808")), QN_E_INPUT, "w", "must be decimal numbers"},
    {"length wrong", EXT(KV("location", "d") KV("length", "9")), QN_E_INPUT, "w", "external_data of 9 bytes: dims and data_type need 8"},
    {"external strings", T("^#1=2 #2=8 @8{'w'} " KV("location", "d") "#14=1"), QN_E_INPUT, "w", "strings in external data"},
    {"external data of no weight", A("@1{'a'} @5{^" W KV("location", "d") "#14=1}"), QN_E_UNSUPPORTED, "n", "which is no weight"},
};

static qn_code open_bytes(const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    return qt_open_bytes("m.onnx", p, n, counter, err);
}

Test(onnx_bad, rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    double worst = 0;
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        qt_buf file = {0};
        uint64_t off = QN_NO_OFFSET;
        qn_err err;
        qt_counter c;
        qt_add_proto(&file, r->file, &off);
        qt_counter_init(&c);
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        const double ms = qt_cpu_ms() - t0;
        worst = ms > worst ? ms : worst;
        if (off == QN_NO_OFFSET)
            off = err.off;
        n_bad += !qt_err_is(r->name, &err, rc, r->code, off, r->tensor, r->text) || strcmp(err.path, "m.onnx") != 0;
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        qt_buf_free(&file);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, n_rows);
    fprintf(stderr, "# %zu malformed ONNX files refused; slowest %.2f ms\n", n_rows, worst);
}

static const char whole[] =
    HEAD "@2{'maker'} @14{@1{'k'} @2{'v'}} @7{@2{'g'} @1{@1{'x'} @1{'w'} @2{'y'} @3{'n'} @4{'Add'}}"
         "@1{@2{'c'} @4{'Constant'} @5{@1{'value'} #20=4 @5{#1=3 #2=7 @7{01 ac02 03}}}}"
         "@1{@1{'y'} @2{'z'} @3{'if'} @4{'If'} @5{@1{'then_branch'} #20=5 @6{@5{" W "@4{z8}}}}}"
         "@5{#1=2 #2=10 @8{'h'} #5=1 #5=15360} @5{" W "@9{z8}} @11{@1{'x'} @2{@1{#1=1 @2{@1{@2{'N'}} @1{#1=2}}}}}}";

/* No prefix but the whole is a model: the graph is the last field, and its length says where the file ends. */
Test(onnx_bad, prefixes)
{
    qt_buf file = {0};
    qn_err err;
    size_t n_refused = 0;
    qt_add_proto(&file, whole, NULL);
    cr_assert_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
        memcpy(exact, file.p, n);
        const qn_code rc = open_bytes(exact, n, NULL, &err);
        cr_expect_eq(rc, QN_E_INPUT, "prefix of %zu bytes: code %d", n, rc);
        n_refused += rc == QN_E_INPUT;
        free(exact);
    }
    /* behind the graph, protobuf cannot tell a cut from an end: fields that are there count, a cut one is refused */
    const size_t n_graph = file.n;
    qt_add_proto(&file, "@14{@1{'key'} @2{'value'}} #5=300", NULL);
    for (size_t n = n_graph; n <= file.n; n++) {
        const bool between = n == n_graph || n == file.n - 3 || n == file.n;
        cr_expect_eq(open_bytes(file.p, n, NULL, &err), between ? QN_OK : QN_E_INPUT, "%zu of %zu bytes", n, file.n);
    }
    fprintf(stderr, "# %zu prefixes refused\n", n_refused);
    qt_buf_free(&file);
}

/* Whichever allocation fails: a clean error, nothing kept. */
Test(onnx_bad, every_allocation_fails)
{
    qt_buf file = {0};
    qn_err err;
    qt_add_proto(&file, whole, NULL);
    for (int persistent = 0; persistent < 2; persistent++)
        for (uint64_t k = 1;; k++) {
            qt_counter c;
            qt_counter_init(&c);
            c.fail_at = k;
            c.fail_on = persistent;
            const qn_code rc = open_bytes(file.p, file.n, &c, &err);
            if (rc == QN_OK) {
                cr_assert_gt(k, 5u);
                break;
            }
            cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d", (unsigned long long)k, rc);
        }
    qt_buf_free(&file);
}

static void add_sub(qt_buf *b, unsigned field, const qt_buf *message)
{
    uint8_t p[11] = {(uint8_t)(field << 3 | 2)};
    qt_add(b, p, 1 + qn_put_varint(p + 1, message->n));
    qt_add(b, message->p, message->n);
}

/* Files that would take long or much: many small things, deep things. */
Test(onnx_bad, bombs)
{
    static const struct {
        const char *name, *file;
        qn_code code;
        const char *text;
    } bombs[] = {
        {"20000 graphs with one name", HEAD "@7{r20000(@1{@4{'If'} @5{@1{'t'} @6{@5{#1=0 #2=1 @8{'w'}}}}})}", QN_OK, NULL},
        {"100000 empty graphs", A("@1{'a'} r100000(@11{})"), QN_E_UNSUPPORTED, "its structure takes more than"},
        {"200000 ints", HEAD "@7{@1{@4{'Op'} @5{@1{'a'} @8{r200000(01)}}}}", QN_OK, NULL},
        {"50000 single ints of a tensor", T("#1=50000 #2=7 @8{'w'} r50000(#7=1)"), QN_OK, NULL},
        {"10000 runs of a tensor", T("#1=20000 #2=7 @8{'w'} r10000(#7=1 @7{01})"), QN_OK, NULL},
        {"20000 times the name", T(W "@9{z8} r20000(@8{'w'})"), QN_OK, NULL},
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        qt_buf file = {0};
        qn_err err;
        qt_counter c;
        qt_add_proto(&file, bombs[i].file, NULL);
        qt_counter_init(&c);
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        const double ms = qt_cpu_ms() - t0;
        cr_expect_eq(rc, bombs[i].code, "%s: %d %s", bombs[i].name, rc, err.text);
        cr_expect(!bombs[i].text || strstr(err.text, bombs[i].text), "%s: %s", bombs[i].name, err.text);
        cr_expect_leq(ms, 200 * qt_slack(), "%s: %.0f ms", bombs[i].name, ms);
        cr_expect_leq(c.peak, 80 * file.n + (4 << 20), "%s: %llu bytes for %zu", bombs[i].name, (unsigned long long)c.peak, file.n);
        qt_buf_free(&file);
    }
    qt_buf deep = {0}, file = {0}; /* graphs in graphs, written from the inside: node, attribute, graph, node, … */
    qn_err err;
    for (int i = 0; i < 91; i++) {
        qt_buf outer = {0};
        qt_add_proto(&outer, i % 3 == 0 ? "@4{'If'}" : i % 3 == 1 ? "@2{'g'}" : "@1{'a'}", NULL);
        add_sub(&outer, i % 3 == 0 ? 5 : i % 3 == 1 ? 1 : 6, &deep);
        qt_buf_free(&deep);
        deep = outer;
    }
    qt_add_proto(&file, HEAD, NULL);
    qt_buf graph = {0};
    add_sub(&graph, 1, &deep);
    add_sub(&file, 7, &graph);
    qt_buf_free(&graph);
    const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
    cr_expect_eq(rc, QN_E_INPUT);
    cr_expect(strstr(err.text, "nested deeper than 64"), "%s", err.text);
    qt_buf_free(&deep);
    qt_buf_free(&file);
}
