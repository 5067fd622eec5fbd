//! CPU time, from `/proc`. Everywhere else it is unknown and reads as zero.

/// `USER_HZ` of Linux on all its platforms: the unit of `/proc/*/stat`.
const TICKS_PER_S: f64 = 100.0;

/// User and system time of this process, ended threads included, in seconds.
pub fn process_s() -> f64 {
    read("/proc/self/stat")
}

/// The same of another process.
pub fn of_process_s(pid: u32) -> f64 {
    read(&format!("/proc/{pid}/stat"))
}

/// The same of the calling thread.
pub fn this_thread_s() -> f64 {
    // Nanoseconds on the CPU; finer than ticks.
    let precise = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let precise = precise.and_then(|t| t.split_whitespace().next()?.parse::<f64>().ok());
    precise.map_or_else(|| read("/proc/thread-self/stat"), |ns| ns / 1e9)
}

fn read(path: &str) -> f64 {
    std::fs::read_to_string(path).ok().and_then(|t| ticks(&t)).map_or(0.0, |t| t / TICKS_PER_S)
}

/// Fields 14 and 15; counted from the last `)`, because a thread's name may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_brackets_do_not_shift_the_fields() {
        let stat = "17 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("garbage"), None);
    }
}
