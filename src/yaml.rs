//! L0: the only file that names the YAML library (it is archived upstream; this fence is where it would be replaced).
