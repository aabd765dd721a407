//! Tables and medians.

use std::time::Duration;

/// A table with a title, printed with aligned columns.
#[derive(Debug)]
pub(super) struct Table {
    title: String,
    lines: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self { title: title.into(), lines: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }

    pub(super) fn print(&self) {
        println!("\n{}", self.title);
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for line in &self.lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("  {}", cells.join("  ").trim_end());
        }
    }
}

/// The middle of the measurements; zero where there are none.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// In milliseconds.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// How many times as long.
pub(super) fn ratio(time: Duration, other: Duration) -> String {
    if other.is_zero() { "-".to_owned() } else { format!("{:.2}", time.as_secs_f64() / other.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_the_order() {
        let times = [9, 1, 5].map(Duration::from_millis).to_vec();
        assert_eq!(median(times), Duration::from_millis(5));
        assert_eq!(median(Vec::new()), Duration::ZERO);
        assert_eq!(ratio(Duration::from_millis(5), Duration::from_millis(2)), "2.50");
        assert_eq!(ratio(Duration::from_millis(5), Duration::ZERO), "-");
    }
}
