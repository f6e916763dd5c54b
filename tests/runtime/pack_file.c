/* pack_file.c: INPUT OUTPUT: the smallest user of quern/quern.h, linked with the shared library. */
#include <quern/quern.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    qn_err err = {0};
    char line[600] = "usage: pack-file INPUT OUTPUT";
    if (argc == 3 && qn_pack_file(argv[1], argv[2], NULL, NULL, &err) == QN_OK)
        return 0;
    if (argc == 3)
        qn_err_format(&err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    return 1;
}
