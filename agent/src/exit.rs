//! Exit codes, and which of several counts.

use deploy_core::{Error, ErrorKind};

/// Nothing went wrong.
pub(crate) const SUCCESS: u8 = 0;
/// An internal error, or an alarm of `status` and `doctor`.
pub(crate) const FAILURE: u8 = 1;
/// The configuration or the command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Refused, or not as it should be.
pub(crate) const REJECTED: u8 = 3;
/// A person is needed.
pub(crate) const ROLLBACK_FAILED: u8 = 5;
/// Nobody could look.
pub(crate) const UNVERIFIED: u8 = 6;
/// Another run holds it.
pub(crate) const LOCKED: u8 = 7;
/// Stopped by a signal.
pub(crate) const INTERRUPTED: u8 = 8;
/// With `--detailed-exitcode`: something changed, or would.
pub(crate) const CHANGED: u8 = 10;

/// The most severe first.
const SEVERITY: [u8; 10] = [ROLLBACK_FAILED, FAILURE, 4, INTERRUPTED, UNVERIFIED, LOCKED, REJECTED, USAGE, CHANGED, SUCCESS];

/// The code of a program that did several things; 0 for none.
pub(crate) fn most_severe(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| SEVERITY.iter().position(|known| known == code).unwrap_or(0);
    codes.into_iter().min_by_key(rank).unwrap_or(SUCCESS)
}

/// The code for an error outside a deployment, where nothing was changed.
pub(crate) fn of_error(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Internal => FAILURE,
        ErrorKind::RollbackFailed => ROLLBACK_FAILED,
        ErrorKind::Locked => LOCKED,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => REJECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_the_most_severe_exit_code_wins() {
        for (index, severe) in SEVERITY.iter().enumerate() {
            for lesser in &SEVERITY[index..] {
                assert_eq!(most_severe([*lesser, *severe]), *severe);
                assert_eq!(most_severe([*severe, *lesser]), *severe);
            }
        }
        assert_eq!(most_severe([]), 0);
    }

    #[test]
    fn a1_the_order_is_the_documented_one() {
        assert_eq!(SEVERITY, [5, 1, 4, 8, 6, 7, 3, 2, 10, 0]);
    }

    #[test]
    fn a1_errors_of_commands_that_change_nothing_have_their_codes() {
        let code = |kind| of_error(&Error::new(kind, "x"));
        assert_eq!(code(ErrorKind::MaterialRejected), 3);
        assert_eq!(code(ErrorKind::Locked), 7);
        assert_eq!(code(ErrorKind::Interrupted), 8);
        assert_eq!(code(ErrorKind::Internal), 1);
    }
}
