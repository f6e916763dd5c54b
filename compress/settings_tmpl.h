/* settings_tmpl.h: one row for each thing that a quantizer can be told: qn_quant_settings, options of the command line, keys of recipes
 * and the recipe that is stored in the output are all made from it. Included several times, with QN_SETTING defined as needed.
 *
 * QN_SETTING(field of qn_quant_settings, name, KIND, least, most, codecs that know it ("": all), argument, help) */
QN_SETTING(bits, "bits", REAL, 0.05, 32, "", "N", "bits of a weight: whole numbers for a grid, fractions for the others; ect and vq count everything they store. Without it 4")
QN_SETTING(group, "group", WIDTH, 1, 1 << 20, "grid fp8", "N", "columns that share a scale, or 'row'. Without it 32, of fp8 a row")
QN_SETTING(asymmetric, "asymmetric", FLAG, 0, 1, "grid", "yes|no", "a zero point for each group, for weights that are not around zero")
QN_SETTING(gain, "gain", REAL, 0, 2, "grid ect blocks", "X", "multiply the scales that were found by X; without statistics and at few bits 1.05 makes up for what rounding shrinks")
QN_SETTING(columnwise, "columnwise", FLAG, 0, 1, "grid", "yes|no", "scales are for runs of rows of one column: better where inputs differ much in size, slower to multiply with")
QN_SETTING(packed, "packed", FLAG, 0, 1, "grid", "yes|no", "store codes with the same bits each, as programs multiply with them, even where they would be smaller compressed")
QN_SETTING(keepzero, "keepzero", FLAG, 0, 1, "grid", "yes|no", "zero is one of the levels, as in the integer formats of other programs; with 'asymmetric' never the lowest")
QN_SETTING(scalebits, "scalebits", COUNT, 2, 11, "grid", "N", "significant bits of a scale. Without it 5, which cost least where scales are compressed")
QN_SETTING(states, "states", COUNT, 1, 256, "ect", "N", "states of the trellis, 1, 4, 8, … 256; more make it slower and smaller. Without it 256")
QN_SETTING(vector, "vector", COUNT, 2, 16, "vq", "N", "weights of a column that are quantized together: 2, 4, 6, 8, 12 or 16. Without it 2, 4 or 8, whatever suits the layer")
QN_SETTING(vptq, "vptq", FLAG, 0, 1, "vq", "yes|no", "one book for all columns and no scales of rows, as files of VPTQ hold them: for 'export --to vptq'")
QN_SETTING(shells, "shells", FLAG, 0, 1, "pvq", "yes|no", "a number of pulses for each vector, entropy-coded, instead of a length: for weights with heavy tails")
QN_SETTING(window, "window", COUNT, 10, 16, "trellis", "N", "bits of the string that a weight depends on; each one more doubles the time and makes the error smaller. Without it 12")
QN_SETTING(sweeps, "sweeps", COUNT, 0, 20, "grid pvq", "N", "with statistics: go over the columns up to N times more, each with all others known")
