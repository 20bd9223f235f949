//! The one table that is printed: figures with their goals, and a note a group on how they came about.

/// Figures that were measured together.
pub(crate) struct Section {
    pub(crate) title: String,
    /// What was measured and how, in lines.
    pub(crate) how: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One figure, measured several times.
pub(crate) struct Row {
    figure: String,
    unit: Unit,
    /// From the best to the worst.
    samples: Vec<f64>,
    /// What it must not exceed.
    goal: Option<f64>,
}

/// What a figure counts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    /// Millions of bytes.
    Megabytes,
    /// Thousands of bytes.
    Kilobytes,
    PerSecond,
    /// Of two figures of the same kind.
    Ratio,
    Count,
}

impl Row {
    /// A figure without a goal. Fewer is better, unless [`Row::more_is_better`] says otherwise.
    pub(crate) fn new(figure: impl Into<String>, unit: Unit, mut samples: Vec<f64>) -> Row {
        samples.sort_by(f64::total_cmp);
        Row {
            figure: figure.into(),
            unit,
            samples,
            goal: None,
        }
    }

    /// More is better, for a figure without a goal.
    pub(crate) fn more_is_better(mut self) -> Row {
        self.samples.reverse();
        self
    }

    /// Must not exceed `goal`.
    pub(crate) fn at_most(mut self, goal: f64) -> Row {
        self.goal = Some(goal);
        self
    }

    fn cells(&self) -> [String; COLUMNS] {
        let unit = self.unit.name();
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| self.unit.show(value));
        let [best, median, worst] = [self.samples.first(), self.median(), self.samples.last()];
        let goal = self.goal.map_or(String::new(), |goal| format!("<= {goal}"));
        [
            self.figure.clone(),
            self.samples.len().to_string(),
            show(median.copied()),
            show(best.copied()),
            show(worst.copied()),
            unit.to_owned(),
            goal,
            self.verdict().to_owned(),
        ]
    }

    /// The lower one of the two in the middle, where there are two.
    fn median(&self) -> Option<&f64> {
        self.samples.get(self.samples.len().saturating_sub(1) / 2)
    }

    /// Held against the median; who shares the machine is seen in the worst. A count has no such
    /// excuse: one request lost is one too many.
    fn verdict(&self) -> &'static str {
        let (Some(goal), Some(median), Some(worst)) =
            (self.goal, self.median(), self.samples.last())
        else {
            return if self.samples.is_empty() {
                "not available"
            } else {
                ""
            };
        };
        let noisy = self.unit == Unit::Milliseconds;
        match (*worst <= goal, *median <= goal) {
            (true, _) => "ok",
            (false, true) if noisy => "ok, not the worst",
            _ => MISSED,
        }
    }
}

/// Said of a figure that is worse than its goal.
const MISSED: &str = "MISSED";

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::Megabytes => "MB",
            Unit::Kilobytes => "KB",
            Unit::PerSecond => "/s",
            Unit::Ratio => "x",
            Unit::Count => "",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Unit::Milliseconds | Unit::PerSecond if value >= 100.0 => format!("{value:.0}"),
            Unit::Milliseconds
            | Unit::Microseconds
            | Unit::Megabytes
            | Unit::Kilobytes
            | Unit::PerSecond
            | Unit::Ratio => format!("{value:.2}"),
            Unit::Count => format!("{value:.0}"),
        }
    }
}

const COLUMNS: usize = 8;
const HEAD: [&str; COLUMNS] = [
    "figure", "n", "median", "best", "worst", "unit", "goal", "verdict",
];

/// Prints all of it; returns whether a goal was missed.
pub(crate) fn print(sections: &[Section]) -> bool {
    let head = HEAD.map(str::to_owned);
    let rows = sections
        .iter()
        .flat_map(|section| &section.rows)
        .map(Row::cells);
    let widths = widths(&rows.chain([head.clone()]).collect::<Vec<_>>());
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * COLUMNS);
    println!("{}\n{rule}", line(&head, &widths));
    for (section, number) in sections.iter().zip(1..) {
        println!("[{number}] {}", section.title);
        for row in &section.rows {
            println!("{}", line(&row.cells(), &widths));
        }
    }
    println!("{rule}\n");
    for (section, number) in sections.iter().zip(1..) {
        println!("[{number}] {}", section.how.join("\n    "));
    }
    let mut rows = sections.iter().flat_map(|section| &section.rows);
    rows.any(|row| row.verdict() == MISSED)
}

fn widths(rows: &[[String; COLUMNS]]) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    widths
}

fn line(cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let mut text = String::from("  ");
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        // Numbers to the right, words to the left.
        let padded = match column {
            1..=4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        };
        text.push_str(&padded);
        text.push_str("  ");
    }
    text.trim_end().to_owned()
}
