//! Feature engine tests.
