//! Header fields as they stand in what was read: names in whatever case, numbers in digits.

/// Whether a header is called so; `known` is in small letters, as most programs write them.
// Compared with what is known beforehand, it takes a few instructions, and it is done for each header.
#[inline(always)]
pub fn is_field(name: &str, known: &str) -> bool {
    name == known || name.eq_ignore_ascii_case(known)
}

/// A whole number: digits and nothing else, up to nineteen of them.
pub fn whole_number(digits: &[u8]) -> Option<u64> {
    // So many always fit, and nothing that is counted here has more.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_called_so_in_whatever_case() {
        for name in ["content-length", "Content-Length", "CONTENT-LENGTH"] {
            assert!(is_field(name, "content-length"), "{name}");
        }
        for other in ["content_length", "content-lengths", "content-lengt", "content\rlength", ""] {
            assert!(!is_field(other, "content-length"), "{other:?}");
        }
    }

    #[test]
    fn a_whole_number_is_digits_and_nothing_else() {
        let check =
            |digits: &str, expected| assert_eq!(whole_number(digits.as_bytes()), expected, "{digits}");
        check("0", Some(0));
        check("00012", Some(12));
        check("9999999999999999999", Some(9_999_999_999_999_999_999));
        for odd in ["", "+5", "-1", "0x5", "5,5", " 5", "5 ", "5.0", "٥", "10000000000000000000"] {
            check(odd, None);
        }
    }
}
