//! The types that the kernel half and the user half of the recorder share.
#![no_std]
