/* test_torch_bad.c: pickles and checkpoints that must be refused: code, offset and text of the error. */
#include "base/num.h"
#include "formats/source.h"
#include "formats/torch/pickle.h"
#include "tests/support/torch_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* The error is at the end of `before`. */
struct row {
    const char *name, *before;
    size_t n_before;
    const char *after;
    size_t n_after;
    qn_code code;
    const char *text;
};
#define ROW(name, before, after, code, text) {name, before, sizeof before - 1, after, sizeof after - 1, code, text}
#define BAD(name, before, after, text)       ROW(name, before, after, QN_E_INPUT, text)
#define NOT(name, before, after, text)       ROW(name, before, after, QN_E_UNSUPPORTED, text)

static const struct row rows[] = {
    /* the machine */
    BAD("empty pickle", "", "", "pickle ends early: 1 bytes wanted"),
    BAD("only STOP", "\x80\2", ".", "STOP on an empty stack"),
    BAD("no STOP", "\x80\2N", "", "ends early"),
    BAD("values left", "\x80\2NN", ".", "STOP with 1 values left"),
    BAD("a mark left", "\x80\2N(N", ".", "STOP with 2 values left"),
    BAD("payload after STOP", "\x80\2N.", "cos\nsystem\n", "11 bytes behind the end of the pickle"),
    NOT("protocol 1", "", "\x80\1N.", "pickle protocol 1: 2 to 5"),
    NOT("protocol 255", "", "\x80\xff" "N.", "pickle protocol 255"),
    BAD("frame too long", "\x80\4", "\x95\xff\0\0\0\0\0\0\0N.", "FRAME of 255 bytes"),
    BAD("frame of 2^64-1", "\x80\4", "\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "FRAME of 18446744073709551615 bytes"),
    BAD("memo slot empty", "\x80\2", "h\0.", "memo slot 0 is empty"),
    BAD("memo slot 2^32-1", "\x80\2", "j\xff\xff\xff\xff.", "memo slot 4294967295 is empty"),
    NOT("memo put at 2^32-1", "\x80\2N", "r\xff\xff\xff\xff.", "memo slot 4294967295 after 0"),
    BAD("memo put far ahead", "\x80\2N", "r\xff\0\0\0.", "memo slot 255 after 0"),
    BAD("memo put of nothing", "\x80\2", "q\0N.", "BINPUT on an empty stack"),
    BAD("memo put of a mark", "\x80\2N(", "q\0.", "BINPUT on an empty stack"),
    BAD("MEMOIZE of nothing", "\x80\4", "\x94N.", "MEMOIZE on an empty stack"),
    BAD("POP of nothing", "\x80\2", "0N.", "POP on an empty stack"),
    BAD("POP through a mark", "\x80\2N(", "0.", "POP on an empty stack"),
    BAD("TUPLE without mark", "\x80\2N", "t.", "TUPLE without a mark"),
    BAD("TUPLE3 of two", "\x80\2NN", "\x87.", "TUPLE3 on an empty stack"),
    BAD("APPENDS without mark", "\x80\2]", "e.", "APPENDS without a mark"),
    BAD("APPENDS below the mark", "\x80\2(", "e.", "APPENDS on an empty stack"),
    BAD("POP_MARK without mark", "\x80\2N", "1.", "POP_MARK without a mark"),
    BAD("APPEND on a tuple", "\x80\2)N", "a.", "APPEND on a tuple"),
    BAD("APPENDS on a dict", "\x80\2}(N", "e.", "APPENDS on a dict"),
    BAD("SETITEMS on a tuple", "\x80\2)(NN", "u.", "SETITEMS on a tuple"),
    BAD("SETITEMS on a list", "\x80\2](NN", "u.", "SETITEMS on a list"),
    BAD("SETITEMS on a tensor", "\x80\2" PT_W "(NN", "u.", "SETITEMS on a tensor"),
    BAD("SETITEM on a storage", "\x80\2" PT_STORE "NN", "s.", "SETITEM on a storage"),
    BAD("SETITEMS of one", "\x80\2}(N", "u.", "SETITEMS of 1 keys"),
    BAD("DICT of three", "\x80\2(NNN", "d.", "DICT of 3 keys"),
    BAD("ADDITEMS on a list", "\x80\4](N", "\x90.", "ADDITEMS on a list"),
    BAD("LONG4 of 2^32-1", "\x80\2", "\x8b\xff\xff\xff\xff.", "integer of 4294967295 bytes"),
    BAD("LONG1 past the end", "\x80\2\x8a\xff", "\1.", "255 bytes wanted"),
    BAD("BINUNICODE past the end", "\x80\2", "X\xff\xff\xff\x7f" "abc", "BINUNICODE of 2147483647 bytes"),
    BAD("BINUNICODE8 of 2^63", "\x80\2", "\x8d\0\0\0\0\0\0\0\x80" "abc", "BINUNICODE8 of 9223372036854775808 bytes"),
    BAD("BINBYTES8 of 2^64-1", "\x80\2", "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "BINBYTES8 of 18446744073709551615"),
    BAD("BINFLOAT cut", "\x80\2G", "12345", "8 bytes wanted, 5 left"),
    BAD("no opcode 0xff", "\x80\2", "\xff.", "0xff is no opcode"),
    BAD("no opcode 0", "\x80\2", "\0.", "0x00 is no opcode"),
    NOT("INST", "\x80\2(", "ios\nsystem\n.", "opcode INST (0x69) is not allowed"),
    NOT("OBJ", "\x80\2(N", "o.", "opcode OBJ (0x6f)"),
    NOT("DUP", "\x80\2N", "2.", "opcode DUP"),
    NOT("PERSID", "\x80\2", "Pstorage\n.", "opcode PERSID"),
    NOT("INT", "\x80\2", "I1\n.", "opcode INT"),
    NOT("STRING", "\x80\2", "S'a'\n.", "opcode STRING"),
    NOT("GET", "\x80\2", "g0\n.", "opcode GET"),
    NOT("EXT1", "\x80\2", "\x82\1.", "opcode EXT1"),
    NOT("NEWOBJ_EX", "\x80\4N)}", "\x92.", "opcode NEWOBJ_EX"),
    NOT("NEXT_BUFFER", "\x80\5", "\x97.", "opcode NEXT_BUFFER"),
    /* globals */
    NOT("os.system", "\x80\2", "cos\nsystem\nX\2\0\0\0id\x85R.", "global 'os.system' is not allowed"),
    NOT("posix.system", "\x80\2", "cposix\nsystem\n.", "global 'posix.system'"),
    NOT("eval", "\x80\2", "cbuiltins\neval\n.", "global 'builtins.eval'"),
    NOT("resolve_name", "\x80\2", "cpkgutil\nresolve_name\n.", "global 'pkgutil.resolve_name'"),
    NOT("getattr", "\x80\2", "c__builtin__\ngetattr\n.", "global '__builtin__.getattr'"),
    NOT("torch.load", "\x80\2", "ctorch\nload\n.", "global 'torch.load'"),
    NOT("submodule by a point in the name", "\x80\2", "ctorch\n_utils._rebuild_tensor_v2\n.", "global 'torch._utils._rebuild_tensor_v2' is not allowed"),
    NOT("prefix of a known one", "\x80\2", "ctorch._utils\n_rebuild_tensor_v\n.", "is not allowed"),
    NOT("a known one and more", "\x80\2", "ctorch._utils\n_rebuild_tensor_v2 \n.", "is not allowed"),
    NOT("global that drives the terminal", "\x80\2", "c\x1b[2J\nx\n.", "global '\\x1b[2J.x'"),
    NOT("STACK_GLOBAL os.system", "\x80\4X\2\0\0\0osX\6\0\0\0system", "\x93.", "global 'os.system'"),
    BAD("STACK_GLOBAL of integers", "\x80\4K\1K\2", "\x93.", "STACK_GLOBAL of a integer and a integer"),
    BAD("STACK_GLOBAL with NUL", "\x80\4X\3\0\0\0os\0X\6\0\0\0system", "\x93.", "two short texts"),
    BAD("GLOBAL cut", "\x80\2cos\nsyst", "", "ends early"),
    NOT("quantised", "\x80\2", "ctorch._utils\n_rebuild_qtensor\n.", "quantised tensors cannot be read"),
    NOT("quantised storage", "\x80\2", "ctorch\nQInt8Storage\n.", "quantised tensors cannot be read"),
    NOT("sparse", "\x80\2", "ctorch._utils\n_rebuild_sparse_tensor\n.", "sparse tensors cannot be read"),
    NOT("complex128", "\x80\2", "ctorch\nComplexDoubleStorage\n.", "complex numbers of two F64"),
    NOT("meta", "\x80\2", "ctorch._utils\n_rebuild_meta_tensor_no_storage\n.", "tensors without data"),
    BAD("REDUCE on a text", "\x80\2X\1\0\0\0x)", "R.", "a text cannot be applied"),
    BAD("REDUCE on a tensor", "\x80\2" PT_W ")", "R.", "a tensor cannot be applied"),
    BAD("REDUCE with a list", "\x80\2" "ccollections\nOrderedDict\n]", "R.", "arguments are a list"),
    NOT("REDUCE on a storage class", "\x80\2" "ctorch\nFloatStorage\n)", "R.", "'torch.FloatStorage' cannot be applied"),
    NOT("REDUCE on a dtype", "\x80\2" "ctorch\nfloat16\n)", "R.", "'torch.float16' cannot be applied"),
    BAD("NEWOBJ on a dict", "\x80\2})", "\x81.", "a dict cannot be applied"),
    BAD("BUILD on an integer", "\x80\2K\1}", "b.", "a integer takes no state"),
    BAD("BUILD on a global", "\x80\2" "ctorch\nFloatStorage\n}", "b.", "a global takes no state"),
    BAD("BUILD of a dict with a text", "\x80\2}X\1\0\0\0x", "b.", "state of a dict is a text"),
    BAD("OrderedDict of a number", "\x80\2" "ccollections\nOrderedDict\nK\1\x85", "R.", "dict from 1 arguments, the first a integer"),
    BAD("OrderedDict of no pairs", "\x80\2" "ccollections\nOrderedDict\n](NNe\x85", "R.", "item 0 is no pair"),
    BAD("set of a number", "\x80\2" "cbuiltins\nset\nK\1\x85", "R.", "one list is expected"),
    BAD("encode of bytes", "\x80\4" "c_codecs\nencode\nC\1xX\6\0\0\0latin1\x86", "R.", "a text and an encoding"),
    /* storages */
    BAD("persistent id a text", "\x80\2X\1\0\0\0x", "Q.", "persistent id is a text"),
    BAD("persistent id of three", "\x80\2NNN\x87", "Q.", "a tuple of 3"),
    NOT("persistent id of a module", "\x80\2(X\6\0\0\0moduleNNNNt", "Q.", "is of no storage"),
    BAD("storage class a text", "\x80\2(X\7\0\0\0storageX\1\0\0\0xX\1\0\0\0" "0X\3\0\0\0cpuK\x08t", "Q.", "class of a storage is a text"),
    BAD("storage class a dtype", "\x80\2(X\7\0\0\0storagectorch\nfloat16\nX\1\0\0\0" "0X\3\0\0\0cpuK\x08t", "Q.", "class of a storage is a global"),
    BAD("storage key a number", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nK\0X\3\0\0\0cpuK\x08t", "Q.", "key of a storage"),
    BAD("storage key a path", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\4\0\0\0../0X\3\0\0\0cpuK\x08t", "Q.", "key of a storage"),
    BAD("storage key with NUL", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\2\0\0\0" "0\0X\3\0\0\0cpuK\x08t", "Q.", "key of a storage"),
    BAD("storage elements a text", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuX\1\0\0\0" "8t", "Q.", "elements of a storage"),
    BAD("storage elements negative", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuJ\xff\xff\xff\xfft", "Q.", "elements of a storage"),
    BAD("storage elements 2^63-1", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpu\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft", "Q.", "elements of a storage"),
    NOT("storage a view", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x08)t", "Q.", "part of another one"),
    BAD("record missing", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "1X\3\0\0\0cpuK\x08t", "Q.", "there is no record 'm/data/1'"),
    BAD("record too small", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x09t", "Q.", "storage of 36 bytes: record 'm/data/0' has 32"),
    BAD("record too large", "\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x07t", "Q.", "storage of 28 bytes"),
    BAD("record of two lengths", "\x80\2" PT_STORE "0(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x09t", "Q.", "has 36 bytes here and 32 elsewhere"),
    /* tensors */
    BAD("tensor of 5 arguments", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\x08t(K\1t\x89t", "R.", "tensor from 5 arguments: 6 to 7"),
    BAD("tensor of 9 arguments", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\x08t(K\1t\x89NNNNt", "R.", "tensor from 9 arguments"),
    BAD("tensor over a text", "\x80\2" PT_V2 "(X\1\0\0\0xK\0(K\x08t(K\1t\x89Nt", "R.", "tensor over a text"),
    BAD("tensor over a tensor", "\x80\2" PT_V2 "(" PT_W "K\0(K\x08t(K\1t\x89Nt", "R.", "tensor over a tensor"),
    BAD("first element negative", "\x80\2" PT_V2 "(" PT_STORE "J\xff\xff\xff\xff(K\x08t(K\1t\x89Nt", "R.", "storage offset of a tensor"),
    BAD("first element a float", "\x80\2" PT_V2 "(" PT_STORE "G\0\0\0\0\0\0\0\0(K\x08t(K\1t\x89Nt", "R.", "storage offset of a tensor"),
    BAD("size a number", "\x80\2" PT_V2 "(" PT_STORE "K\0K\x08(K\1t\x89Nt", "R.", "size of a tensor is a integer"),
    BAD("size negative", "\x80\2" PT_V2 "(" PT_STORE "K\0(J\xff\xff\xff\xfft(K\1t\x89Nt", "R.", "size of a tensor: integers of 0 to 2^48"),
    BAD("stride negative", "\x80\2" PT_V2 "(" PT_STORE "K\7(K\x08t(J\xff\xff\xff\xfft\x89Nt", "R.", "stride of a tensor: integers of 0 to 2^48"),
    BAD("size above 2^48", "\x80\2" PT_V2 "(" PT_STORE "K\0(\x8a\x08\0\0\0\0\0\0\0\1t(K\1t\x89Nt", "R.", "size of a tensor: integers"),
    BAD("size a bool", "\x80\2" PT_V2 "(" PT_STORE "K\0(\x88t(K\1t\x89Nt", "R.", "size of a tensor: integers"),
    BAD("more sizes than strides", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\2K\4t(K\1t\x89Nt", "R.", "2 sizes and 1 strides"),
    NOT("17 dimensions", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1t\x89Nt", "R.", "17 dimensions: up to 16"),
    BAD("one past the storage", "\x80\2" PT_V2 "(" PT_STORE "K\1(K\x08t(K\1t\x89Nt", "R.", "reaches element 8 of a storage of 8"),
    BAD("scalar past the storage", "\x80\2" PT_V2 "(" PT_STORE "K\x08))\x89Nt", "R.", "reaches element 8 of a storage of 8"),
    BAD("stride past the storage", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\2K\4t(K\5K\1t\x89Nt", "R.", "reaches element 8 of a storage of 8"),
    BAD("first at 2^63-1", "\x80\2" PT_V2 "(" PT_STORE "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f(K\x08t(K\1t\x89Nt", "R.", "reaches element"),
    BAD("reach wraps", "\x80\2" PT_V2 "(" PT_STORE "K\0(\x8a\x06\0\0\0\0\x80\0t(\x8a\x06\0\0\0\0\x80\0t\x89Nt", "R.", "reaches element 18446744073709551615"),
    BAD("product of sizes wraps to 0", "\x80\2" PT_V2 "(" PT_STORE "K\0(\x8a\5\0\0\0\0\1\x8a\5\0\0\0\0\1t(K\0K\0t\x89Nt", "R.", "size of a tensor overflows"),
    NOT("expanded without bound", "\x80\2" PT_V2 "(" PT_STORE "K\0(\x8a\5\0\0\0\0\1t(K\0t\x89Nt", "R.", "repeats a storage of 8 elements as 4294967296"),
    NOT("conjugated", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\x08t(K\1t\x89N}X\4\0\0\0conj\x88st", "R.", "with the 'conj' mark"),
    NOT("negated", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\x08t(K\1t\x89N}X\3\0\0\0neg\x88st", "R.", "with the 'neg' mark"),
    BAD("metadata a text", "\x80\2" PT_V2 "(" PT_STORE "K\0(K\x08t(K\1t\x89NX\1\0\0\0xt", "R.", "metadata of a tensor is a text"),
    BAD("untyped storage, no dtype", "\x80\2" PT_V2 "((X\7\0\0\0storagectorch.storage\nUntypedStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x20tQK\0(K\x08t(K\1t\x89Nt", "R.", "storage without dtype"),
    BAD("v3 with a text for dtype", "\x80\2" "ctorch._utils\n_rebuild_tensor_v3\n(" PT_STORE "K\0(K\x08t(K\1t\x89NX\1\0\0\0xt", "R.", "dtype of a tensor is a text"),
    BAD("v3 with a wider dtype", "\x80\2" "ctorch._utils\n_rebuild_tensor_v3\n(" PT_STORE "K\0(K\x08t(K\1t\x89Nctorch\nfloat64\nt", "R.", "reaches element 7 of a storage of 4"),
    BAD("parameter of a dict", "\x80\2" "ctorch._utils\n_rebuild_parameter\n}\x88}\x87", "R.", "parameter: a tensor"),
    BAD("subclass by OrderedDict", "\x80\2" "ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nctorch.nn.parameter\nParameter\n)}t", "R.", "does not rebuild one"),
};

Test(torch_bad, rows)
{
    size_t n_bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        qt_buf pickle = {0};
        qt_zip z;
        qn_err err;
        qt_counter c;
        qt_add(&pickle, r->before, r->n_before);
        qt_add(&pickle, r->after, r->n_after);
        const size_t at = qt_torch_zip(&z, pickle.p, pickle.n);
        qt_counter_init(&c);
        const qn_code rc = qt_open_bytes("m.pt", z.file.p, z.file.n, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, at + r->n_before, "", r->text) || strcmp(err.path, "m.pt") != 0;
        cr_expect_leq(c.peak, 2 * z.file.n + (1 << 20), "%s", r->name);
        qt_zip_free(&z);
        qt_buf_free(&pickle);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu give another error", n_bad, sizeof rows / sizeof rows[0]);
    fprintf(stderr, "# %zu malformed pickles refused\n", sizeof rows / sizeof rows[0]);
}

#define GOOD "\x80\2}" PT_KEY("w") PT_W "s."

/* What is wrong with the archive around a good pickle. */
Test(torch_bad, archives)
{
    static const struct {
        const char *name, *pkl, *order, *order_text, *record, *extra;
        unsigned pkl_how, record_how;
        int part; /* of the error: entry number, −1: byte 0; offset of its header, or of its data when ≥ 100 */
        qn_code code;
        const char *text;
    } a[] = {
        {"no data.pkl", "m/data", "m/byteorder", "little", "m/data/0", NULL, 0, 0, -1, QN_E_UNSUPPORTED, "without data.pkl"},
        {"data.pkl at the top", "data.pkl", "m/byteorder", "little", "m/data/0", NULL, 0, 0, -1, QN_E_UNSUPPORTED, "without data.pkl"},
        {"TorchScript", "m/data.pkl", "m/byteorder", "little", "m/data/0", "m/constants.pkl", 0, 0, -1, QN_E_UNSUPPORTED, "TorchScript"},
        {"big-endian", "m/data.pkl", "m/byteorder", "big", "m/data/0", NULL, 0, 0, 101, QN_E_UNSUPPORTED, "big-endian machine"},
        {"byteorder of another word", "m/data.pkl", "m/byteorder", "middle", "m/data/0", NULL, 0, 0, 101, QN_E_INPUT, "byteorder is not 'little'"},
        {"byteorder too long", "m/data.pkl", "m/byteorder", "little ", "m/data/0", NULL, 0, 0, 101, QN_E_INPUT, "byteorder of 7 bytes"},
        {"pickle deflated", "m/data.pkl", "m/byteorder", "little", "m/data/0", NULL, QT_ZIP_DEFLATE, 0, 0, QN_E_UNSUPPORTED, "is deflated"},
        {"storage deflated", "m/data.pkl", "m/byteorder", "little", "m/data/0", NULL, 0, QT_ZIP_DEFLATE, 2, QN_E_UNSUPPORTED, "is deflated"},
    };
    static const uint8_t data[32];
    qn_err err;
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
        qt_zip z = {0};
        qt_zip_add(&z, a[i].pkl, GOOD, sizeof GOOD - 1, a[i].pkl_how);
        qt_zip_add(&z, a[i].order, a[i].order_text, strlen(a[i].order_text), 0);
        qt_zip_add(&z, a[i].record, data, sizeof data, a[i].record_how);
        if (a[i].extra)
            qt_zip_add(&z, a[i].extra, "", 0, 0);
        qt_zip_finish(&z, false);
        const size_t off = a[i].part < 0 ? 0 : a[i].part >= 100 ? z.e[a[i].part - 100].data : z.e[a[i].part].local;
        const qn_code rc = qt_open_bytes("m.pt", z.file.p, z.file.n, NULL, &err);
        cr_expect(qt_err_is(a[i].name, &err, rc, a[i].code, off, "", a[i].text));
        qt_zip_free(&z);
    }
    qt_zip z;
    const size_t at = qt_torch_zip(&z, GOOD, sizeof GOOD - 1);
    z.file.p[at + 5] ^= 1;
    const qn_code rc = qt_open_bytes("m.pt", z.file.p, z.file.n, NULL, &err);
    cr_expect(qt_err_is("pickle with a flipped bit", &err, rc, QN_E_INPUT, at, "", "CRC of its data is"));
    qt_zip_free(&z);
    fprintf(stderr, "# %zu malformed archives refused\n", sizeof a / sizeof a[0] + 1);
}

/* The stream of old files: one changed byte each. */
Test(torch_bad, streams)
{
    qt_buf b = {0};
    qn_err err;
    const size_t at = qt_torch_legacy(&b, GOOD, sizeof GOOD - 1), keys = at + sizeof GOOD - 1, count = keys + 12;
    cr_assert_eq(qt_open_bytes("m.th", b.p, b.n, NULL, &err), QN_OK, "%s", err.text);
    const struct {
        const char *name;
        size_t at;
        uint8_t value;
        size_t off;
        qn_code code;
        const char *text;
    } t[] = {
        {"first pickle goes on", 14, 'N', 20, QN_E_INPUT, "STOP with 2 values left"},
        {"protocol 1000", 18, 0xe8, 15, QN_E_UNSUPPORTED, "protocol of the stream is not 1001"},
        {"big-endian", at - 3, 0x89, 21, QN_E_UNSUPPORTED, "big-endian machine"},
        {"endianness a number", at - 3, 'N', 21, QN_E_INPUT, "tells little_endian"},
        {"list of keys a tuple", keys + 2, ')', keys + 10, QN_E_INPUT, "APPENDS on a tuple"},
        {"key unknown", keys + 9, '1', keys, QN_E_INPUT, "nothing speaks of '1'"},
        {"count too small", count, 7, count, QN_E_INPUT, "has 7 elements here, 8 are spoken of"},
        {"count too large", count + 7, 1, count, QN_E_INPUT, "elements here, 8 are spoken of"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        const uint8_t was = b.p[t[i].at];
        b.p[t[i].at] = t[i].value;
        const qn_code rc = qt_open_bytes("m.th", b.p, b.n, NULL, &err);
        cr_expect(qt_err_is(t[i].name, &err, rc, t[i].code, t[i].off, "", t[i].text));
        b.p[t[i].at] = was;
    }
    for (size_t n = 0; n < b.n; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, b.p, n);
        cr_expect_neq(qt_open_bytes("m.th", exact, n, NULL, &err), QN_OK, "prefix of %zu bytes", n);
        free(exact);
    }
    qt_add(&b, "x", 1);
    const qn_code rc = qt_open_bytes("m.th", b.p, b.n, NULL, &err);
    cr_expect(qt_err_is("a byte more", &err, rc, QN_E_INPUT, b.n - 1, "", "1 bytes at the end belong to no storage"));
    fprintf(stderr, "# %zu malformed streams, %zu prefixes refused\n", sizeof t / sizeof t[0] + 1, b.n - 1);
    qt_buf_free(&b);
}

/* Structures that would make a careless walk run forever. */
Test(torch_bad, bombs)
{
    qt_zip z;
    qn_err err;
    qt_buf p = {0};
    static const char self[] = "\x80\2]q\0h\0a.";
    const char *texts[] = {"contains itself", "values nested deeper than 64", "more than 4194304 values", "more than 65536 marks"};
    for (int k = 0; k < 4; k++) {
        p.n = 0;
        if (k == 0)
            qt_add(&p, self, sizeof self - 1);
        qt_add(&p, "\x80\2", k ? 2 : 0);
        for (int i = 0; k == 1 && i < 70; i++)
            qt_add(&p, "]", 1);
        for (int i = 0; k == 1 && i < 69; i++)
            qt_add(&p, "a", 1);
        if (k == 2) { /* each list holds the one before ten times */
            qt_add(&p, "]q\0" "0", 4);
            for (uint8_t i = 1; i < 20; i++) {
                const char get[2] = {'h', (char)(i - 1)}, put[2] = {'q', (char)i};
                qt_add(&p, "](", 2);
                for (int r = 0; r < 10; r++)
                    qt_add(&p, get, 2);
                qt_add(&p, "e", 1);
                qt_add(&p, put, 2);
                qt_add(&p, "0", i < 19);
            }
        }
        for (int i = 0; k == 3 && i < 70000; i++)
            qt_add(&p, "(", 1);
        qt_add(&p, ".", k ? 1 : 0);
        qt_torch_zip(&z, p.p, p.n);
        const double t0 = qt_cpu_ms();
        const qn_code rc = qt_open_bytes("m.pt", z.file.p, z.file.n, NULL, &err);
        cr_expect(rc == (k ? QN_E_UNSUPPORTED : QN_E_INPUT) && strstr(err.text, texts[k]), "%d: %d %s", k, rc, err.text);
        cr_expect_lt(qt_cpu_ms() - t0, 200 * qt_slack());
        qt_zip_free(&z);
    }
    qt_buf_free(&p);
}

struct bytes {
    const uint8_t *p;
    size_t n;
};

static qn_code read_bytes(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct bytes *b = ctx;
    if (off > b->n || n > b->n - off)
        return QN_FAIL(err, QN_E_BUG, off, "read past the end");
    if (n)
        memcpy(dst, b->p + off, n);
    return QN_OK;
}

/* Every opcode on one, two and three values of every kind, with and without a mark among them, with operands of zeros, of ones,
 * and small ones. */
Test(torch_bad, opcodes_on_wrong_kinds)
{
    static const struct {
        const char *p;
        size_t n;
    } kinds[] = {
#define KIND(s) {s, sizeof s - 1}
        KIND(""), KIND("N"), KIND("\x88"), KIND("K\1"), KIND("\x8a\x09" "123456789"), KIND("G12345678"), KIND("X\1\0\0\0x"),
        KIND("C\1x"), KIND(")"), KIND("]"), KIND("}"), KIND("\x8f"), KIND("ctorch\nFloatStorage\n"), KIND("ctorch\nSize\n"),
        KIND("ctorch\nfloat16\n"), KIND("ccollections\nOrderedDict\n"), KIND(PT_V2), KIND(PT_STORE), KIND(PT_W),
        KIND("cnumpy\ndtype\n)R"), KIND("((((NtttN"),
    };
    static const char operands[3][24] = {"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\1\0\0\0\0\0\0\0N)}]."};
    size_t n_runs = 0, n_ok = 0;
    for (unsigned op = 0; op < 256; op++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (unsigned form = 0; form < 18; form++) {
                qt_buf b = {0};
                const uint8_t code = (uint8_t)op;
                qt_add(&b, "\x80\4", 2);
                for (unsigned times = 0; times <= form % 3; times++) {
                    if (form / 9 && times == form % 3)
                        qt_add(&b, "(", 1);
                    qt_add(&b, kinds[k].p, kinds[k].n);
                }
                qt_add(&b, &code, 1);
                qt_add(&b, operands[form / 3 % 3], 16);
                qt_add(&b, ".", 1);
                struct bytes in = {b.p, b.n};
                qn_pickle p;
                qt_counter c;
                qn_err err;
                qn_pk *root;
                uint64_t after;
                qt_counter_init(&c);
                qn_err_clear(&err);
                qn_pickle_init(&p, &c.alloc, read_bytes, &in);
                const qn_code rc = qn_pickle_load(&p, 0, b.n, &root, &after, &err);
                cr_assert(rc == QN_OK || ((rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) && err.code == rc && err.text[0] && err.off <= b.n),
                          "opcode 0x%02x on kind %zu, form %u: %d", op, k, form, rc);
                qn_pickle_release(&p);
                cr_assert_eq(c.n_live, 0);
                n_ok += rc == QN_OK;
                n_runs++;
                qt_buf_free(&b);
            }
    fprintf(stderr, "# %zu pickles of one opcode: %zu refused\n", n_runs, n_runs - n_ok);
}

/* No prefix of a good pickle is a pickle; whichever allocation fails, the error is clean. */
Test(torch_bad, prefixes_and_allocations)
{
    qn_err err;
    qt_zip z;
    for (size_t n = 0; n < sizeof GOOD - 1; n++) {
        qt_torch_zip(&z, GOOD, n);
        cr_expect_eq(qt_open_bytes("m.pt", z.file.p, z.file.n, NULL, &err), QN_E_INPUT, "prefix of %zu bytes", n);
        qt_zip_free(&z);
    }
    qt_torch_zip(&z, GOOD, sizeof GOOD - 1);
    for (size_t n = 0; n < z.file.n; n++)
        cr_expect_neq(qt_open_bytes("m.pt", z.file.p, n, NULL, &err), QN_OK, "file of %zu bytes", n);
    for (uint64_t k = 1;; k++) {
        qt_counter c;
        qt_counter_init(&c);
        c.fail_at = k;
        const qn_code rc = qt_open_bytes("m.pt", z.file.p, z.file.n, &c, &err);
        if (rc == QN_OK) {
            cr_expect_gt(k, 15u);
            break;
        }
        cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: %d %s", (unsigned long long)k, rc, err.text);
    }
    qt_zip_free(&z);
}
