//! Dates in the names of images.

/// The UTC date of `epoch` (seconds since 1970) as OCI's platform images spell it, `2026.11.24`.
pub(crate) fn dotted(epoch: u64) -> String {
    // Howard Hinnant's civil_from_days, for days that are not negative.
    let days = epoch / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}.{month:02}.{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_known_days() {
        let cases = [
            (0, "1970.01.01"),
            (951_782_400, "2000.02.29"),
            (1_709_164_799, "2024.02.28"),
            (1_795_478_400, "2026.11.24"),
        ];
        for (epoch, expected) in cases {
            assert_eq!(dotted(epoch), expected);
        }
    }
}
