//! What a process has mapped of files and does not need for now: most of a master once it has started,
//! and of an interpreter that has loaded an app and is there to be forked.
#![expect(unsafe_code, reason = "madvise")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// What is read of smaps at once, and what most of its lines fit in, in bytes.
const PIECE: usize = 4096;
const LONG_LINE: usize = 256;

/// Lets go of the pages of programs and libraries that this process, which must have one thread, has
/// mapped and not changed. Returns how many bytes they are.
///
/// They are no longer the process's, and the kernel keeps them in its page cache for as long as
/// nothing else needs the memory. What is touched again is mapped again, some 16 pages at a time.
///
/// Where more threads run, which could map something else at such a place meanwhile, nothing
/// happens, and neither does where `/proc` is not to be read.
///
/// ```
/// let bytes = worker_api::memory::release_file_pages();
/// println!("{bytes} bytes will be mapped again when they are used");
/// ```
pub fn release_file_pages() -> usize {
    if !is_alone() {
        return 0;
    }
    let Ok(smaps) = File::open("/proc/self/smaps") else {
        return 0;
    };
    let mut bytes = 0;
    // In pieces, and each line in the same place: whatever this writes to is copied for it, where
    // workers were forked that share it.
    each_clean_file(BufReader::with_capacity(PIECE, smaps), |range, resident| {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: each page of the range is one of a file, unchanged, which the next access brings
        // back as it is; no other thread is there to map anything else.
        let released = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        bytes += if released.is_ok() { resident } else { 0 };
    });
    bytes
}

/// Whether this process has one thread, going by proc_pid_stat(5).
fn is_alone() -> bool {
    let mut stat = [0; 1024];
    let read = File::open("/proc/self/stat").and_then(|mut file| file.read(&mut stat));
    let text = String::from_utf8_lossy(&stat[..read.unwrap_or(0)]);
    // The name, in parentheses, may be anything. The first word after it is the third field.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace().nth(20 - 3) == Some("1")
}

/// Finds the mappings of `smaps` (proc_pid_smaps(5)) that are private, cannot be written to, and have
/// no page of their own, in memory or in swap: relocations would be such. With each comes how many
/// bytes of it are resident, where that is any.
fn each_clean_file(mut smaps: impl BufRead, mut found: impl FnMut(Range<usize>, usize)) {
    let mut mapping: Option<Mapping> = None;
    let mut line = Vec::with_capacity(LONG_LINE);
    while smaps
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        // A path may be anything; the first character is all that is asked of it.
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(name) = first.strip_suffix(':') {
            if let Some(of) = &mut mapping
                && of.is_clean(name, words.next())
            {
                found(of.range.clone(), of.resident);
            }
        } else {
            mapping = Mapping::read(first, words);
        }
        line.clear();
    }
}

struct Mapping {
    range: Range<usize>,
    resident: usize,
    /// None of its pages in memory has been changed; said before `Swap`.
    is_unchanged: bool,
}

impl Mapping {
    /// From its first line, if that is one of a file that is mapped privately and cannot be written.
    fn read<'a>(range: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let (start, end) = range.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        let modes = words.next()?.as_bytes();
        let is_file = words.nth(3)?.starts_with('/');
        (is_file && modes.get(1) == Some(&b'-') && modes.get(3) == Some(&b'p')).then_some(Self {
            range,
            resident: 0,
            is_unchanged: false,
        })
    }

    /// Takes one of its further lines, and says with the last that matters whether it is clean.
    fn is_clean(&mut self, name: &str, kilobytes: Option<&str>) -> bool {
        let Some(kilobytes) = kilobytes.and_then(|word| word.parse::<usize>().ok()) else {
            return false;
        };
        match name {
            "Rss" => self.resident = kilobytes * 1024,
            "Anonymous" => self.is_unchanged = kilobytes == 0,
            "Swap" => return kilobytes == 0 && self.is_unchanged && self.resident > 0,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn clean_files(smaps: &str) -> Vec<(Range<usize>, usize)> {
        let mut all = Vec::new();
        each_clean_file(smaps.as_bytes(), |range, resident| {
            all.push((range, resident))
        });
        all
    }

    /// A mapping of the kernel's own telling, with some of its lines.
    fn told(start: usize, modes: &str, path: &str, [rss, anonymous, swap]: [usize; 3]) -> String {
        let mut lines = format!(
            "{start:x}-{:x} {modes} 00001000 fe:00 1234    {path}\n",
            start + 0x2000
        );
        write!(
            lines,
            "Size: 8 kB\nRss: {rss} kB\nPss: 1 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\n\
             SwapPss: 0 kB\nVmFlags: rd ex mr mw me\n"
        )
        .unwrap();
        lines
    }

    #[test]
    fn only_unchanged_pages_of_files_are_released() {
        let text = told(0x1000, "r-xp", "/usr/lib/lib c.so", [8, 0, 0]);
        let constants = told(0x5000, "r--p", "/usr/lib/libc.so", [4, 0, 0]);
        let others = [
            told(0x10000, "r--p", "/lib/relocated.so", [8, 4, 0]),
            told(0x14000, "r--p", "/lib/relocated_and_swapped.so", [4, 0, 4]),
            told(0x18000, "rw-p", "/lib/data.so", [8, 0, 0]),
            told(0x1c000, "r--s", "/srv/shared", [8, 0, 0]),
            told(0x20000, "r-xp", "[vdso]", [4, 0, 0]),
            told(0x24000, "r--p", "", [4, 0, 0]),
            told(0x28000, "r--p", "/lib/not_resident.so", [0, 0, 0]),
        ];
        let smaps = [text, others.concat(), constants].concat();
        let released = [(0x1000..0x3000, 8192), (0x5000..0x7000, 4096)];
        assert_eq!(clean_files(&smaps), released);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_taken_for_nothing() {
        let whole = told(0x1000, "r-xp", "/usr/lib/libc.so", [8, 0, 0]);
        for missing in ["Rss", "Anonymous", "Swap"] {
            let lines = whole
                .lines()
                .filter(|line| !line.starts_with(&format!("{missing}:")));
            let smaps = lines.collect::<Vec<_>>().join("\n");
            assert_eq!(clean_files(&smaps), [], "without {missing}");
        }
        assert_eq!(clean_files("nonsense\n\n12-zz r-xp\nSwap: 0 kB\n"), []);
    }
}
