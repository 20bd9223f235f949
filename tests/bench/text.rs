//! Columns of text.

/// Prints a head, a rule and rows, each column as wide as its widest cell.
pub(crate) fn print_columns<const N: usize>(head: &[String; N], rows: &[[String; N]]) {
    let mut widths = head.each_ref().map(String::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: &[String; N]| {
        let cells = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    println!(
        "{}\n{}",
        line(head),
        "-".repeat(widths.iter().sum::<usize>() + 2 * (N - 1))
    );
    for row in rows {
        println!("{}", line(row));
    }
}

/// The smallest and the largest, or the one that they all are.
pub(crate) fn range(numbers: impl Iterator<Item = f64> + Clone, decimals: usize) -> String {
    let least = numbers.clone().fold(f64::INFINITY, f64::min);
    let most = numbers.fold(f64::NEG_INFINITY, f64::max);
    let (least, most) = (format!("{least:.decimals$}"), format!("{most:.decimals$}"));
    if least == most {
        least
    } else {
        format!("{least} to {most}")
    }
}
