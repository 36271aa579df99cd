//! Threads that several handles share.

use super::slots::Slots;
use super::{Status, guard, put};
use crate::error::Error;
use crate::sys;

pub use crate::sys::team::Team;

static TEAMS: Slots<Team> = Slots::new(0x85eb_ca6b, Error::BadTeam);

/// Creates a team of threads for the handles that name it in `config.team`, and writes its handle
/// to `out_team`. `num_threads` counts the thread that calls a step: 1 is that thread alone, and 0
/// stands for as many as there are processors in the affinity mask of the process. Any other number
/// is used as given.
///
/// The first step that is shared starts the other threads; they wait between steps and block all
/// signals. Handles may step at the same time: the threads work for the one that came first, and
/// the other steps run on their callers' threads alone. No step waits for another one, and the bits
/// are the same.
///
/// The team belongs to the caller, who ends it with `adamw_team_destroy`, and to the handles that
/// name it. The threads are joined when neither is left.
///
/// # Safety
/// `out_team` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_team_create(num_threads: u32, out_team: *mut *mut Team) -> Status {
    guard(|| {
        if out_team.is_null() {
            return Err(Error::Null("out_team"));
        }
        let given = (num_threads > 0).then_some(num_threads as usize);
        let team = Team::new(given.unwrap_or_else(sys::affinity_count))?;
        let handle = TEAMS.insert(team)?;
        // SAFETY: not NULL, and the caller guarantees the rest.
        unsafe { put("out_team", out_team, handle) }
    })
}

/// Ends the caller's part in a team: its handle cannot be used any more. The handles of optimizers
/// that name it keep the threads until the last of them is destroyed, so that the order does not
/// matter; if there is none, the threads are joined before this returns. NULL does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_team_destroy(team: *mut Team) -> Status {
    guard(|| if team.is_null() { Ok(()) } else { TEAMS.remove(team, |_| Ok(())) })
}

/// Returns the team of a handle.
pub(super) fn of(handle: *const Team) -> Result<Team, Error> {
    TEAMS.read(handle, Team::clone)
}
