#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| deploy_proof::fuzzing::pem(input));
