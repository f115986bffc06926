//! Whole numbers as text, which is what ids are in many places, without memory of its own.

/// Room for the digits of any number.
const DIGITS_MAX: usize = 20;

/// A number in decimals.
pub struct Decimal {
    /// They stand at the end.
    digits: [u8; DIGITS_MAX],
    begin: usize,
}

impl Decimal {
    /// Of a number.
    pub fn of(number: u64) -> Decimal {
        let mut decimal = Decimal {
            digits: [0; DIGITS_MAX],
            begin: DIGITS_MAX,
        };
        let mut rest = number;
        loop {
            decimal.begin -= 1;
            decimal.digits[decimal.begin] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return decimal;
            }
        }
    }

    /// Its digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.begin..]
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_as_everywhere() {
        for number in [0, 7, 10, 99, 100, 1 << 40, u64::MAX] {
            assert_eq!(Decimal::of(number).as_str(), number.to_string());
        }
    }
}
