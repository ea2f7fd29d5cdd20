"""The ground floor: values and arithmetic that every room shares. No I/O, nothing but the standard library and the
compiler's own."""
