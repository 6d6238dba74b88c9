//! Keeps events of descriptors that are closed already from the runtime.
//!
//! After a restore, gVisor (seen with 2024-07) reports events of registrations that had been deleted before the save.
//! tokio takes the data of an event for a pointer to what waits for it: the agent then used memory that it had freed,
//! and hung or crashed. So the two functions below take the place of libc's. They know what is registered, and let
//! nothing else through.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use libc::{c_int, epoll_event};

/// The bits that tell of an end. tokio remembers them for ever, so they must be true of the descriptor itself.
const ENDS: u32 = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32;

static REGISTERED: Mutex<Registered> = Mutex::new(Registered(BTreeMap::new()));

/// Descriptors and the data of their events, of all epoll instances of this process. A closed descriptor that was not
/// deregistered stays until its number is registered again, which does no harm.
struct Registered(BTreeMap<c_int, u64>);

impl Registered {
    fn change(&mut self, operation: c_int, descriptor: c_int, data: Option<u64>) {
        match (operation, data) {
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, Some(data)) => {
                self.0.insert(descriptor, data);
            }
            (libc::EPOLL_CTL_DEL, _) => {
                self.0.remove(&descriptor);
            }
            _ => {}
        }
    }

    /// What is true of an event; 0 when nothing is. `ends` tells which of [`ENDS`] a descriptor has now.
    fn check(&self, events: u32, data: u64, ends: impl Fn(c_int) -> u32) -> u32 {
        let mut known = self.0.iter().filter(|(_, own)| **own == data).peekable();
        if known.peek().is_none() {
            return 0;
        }
        if events & ENDS == 0 {
            return events;
        }
        let ended = known.fold(0, |all, (descriptor, _)| all | ends(*descriptor));
        events & (!ENDS | ended)
    }
}

/// In place of libc's.
///
/// # Safety
/// As of `epoll_ctl(2)`: `event` is null or points to an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    descriptor: c_int,
    event: *mut epoll_event,
) -> c_int {
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the caller's own arguments.
    let (result, data) = unsafe {
        let result = libc::syscall(libc::SYS_epoll_ctl, epoll, operation, descriptor, event);
        (result, event.as_ref().map(|event| event.u64))
    };
    if result == 0 {
        registered.change(operation, descriptor, data);
    }
    result as c_int
}

/// In place of libc's; may return 0 before the time is up, as after a signal.
///
/// # Safety
/// As of `epoll_wait(2)`: `events` points to room for `most` events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout_ms: c_int) -> c_int {
    // SAFETY: the caller's own arguments; the last two say that there is no signal mask.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epoll,
            events,
            most,
            timeout_ms,
            std::ptr::null::<libc::sigset_t>(),
            8_usize,
        )
    };
    let Ok(count) = usize::try_from(count) else {
        return -1;
    };
    if count == 0 {
        return 0;
    }
    // SAFETY: the kernel has written so many events there.
    let found = unsafe { std::slice::from_raw_parts_mut(events, count) };
    let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kept = 0;
    for index in 0..count {
        let mut event = found[index];
        event.events = registered.check(event.events, event.u64, ends_of);
        if event.events != 0 {
            found[kept] = event;
            kept += 1;
        }
    }
    kept as c_int
}

fn ends_of(descriptor: c_int) -> u32 {
    let mut asked = libc::pollfd {
        fd: descriptor,
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one structure, which outlives the call; it does not wait.
    if unsafe { libc::poll(&raw mut asked, 1, 0) } <= 0 || asked.revents & libc::POLLNVAL != 0 {
        return 0;
    }
    // The bits of poll have the values of epoll's.
    u32::from(asked.revents.cast_unsigned()) & ENDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: u32 = libc::EPOLLIN as u32;
    const HUP: u32 = libc::EPOLLHUP as u32;

    fn registered(pairs: &[(c_int, u64)]) -> Registered {
        let mut all = Registered(BTreeMap::new());
        for (descriptor, data) in pairs {
            all.change(libc::EPOLL_CTL_ADD, *descriptor, Some(*data));
        }
        all
    }

    #[test]
    fn only_what_is_registered_and_true_comes_through() {
        let mut all = registered(&[(4, 40), (5, 50), (6, 50)]);
        all.change(libc::EPOLL_CTL_MOD, 4, Some(41));
        all.change(libc::EPOLL_CTL_ADD, 7, Some(70));
        all.change(libc::EPOLL_CTL_DEL, 7, None);
        // Of the two with the same data, 6 has ended.
        let ends = |descriptor| if descriptor == 6 { HUP } else { 0 };
        for (events, data, expected) in [
            (IN, 41, IN),
            (IN, 40, 0),
            (IN, 70, 0),
            (HUP, 70, 0),
            (HUP, 41, 0),
            (IN | HUP, 41, IN),
            (IN | HUP, 50, IN | HUP),
        ] {
            assert_eq!(all.check(events, data, ends), expected, "{events} {data}");
        }
    }

    #[tokio::test]
    async fn the_runtime_goes_this_way_and_sees_ends() {
        use tokio::io::AsyncReadExt;

        let (here, there) = tokio::net::UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
        assert!(REGISTERED.lock().is_ok_and(|all| all.0.len() >= 2));
        let waiting = tokio::spawn(async move {
            let mut here = here;
            let mut all = Vec::new();
            here.read_to_end(&mut all).await.map(|_| all.len())
        });
        tokio::task::yield_now().await;
        drop(there);
        assert_eq!(waiting.await.ok().and_then(Result::ok), Some(0));
    }
}
