//! Remaining quota of request limits in the context. The host does not make these charges again; it
//! uses the values for response headers and for limits in shadow.

use tensorgate_policy::policy::{RemainingQuota, Wait};

use super::take_chunk;

/// Maximum entries: the request limits of a grant.
const MAX_QUOTAS: usize = 2;

/// Appends quotas, in the order of the grant's limits, to a context's fields.
pub(super) fn write(quotas: &[RemainingQuota], fields: &mut Vec<u8>) {
    let quotas = quotas.get(..MAX_QUOTAS).unwrap_or(quotas);
    fields.push(u8::try_from(quotas.len()).unwrap_or(0));
    for quota in quotas {
        fields.extend_from_slice(&quota.left.to_be_bytes());
        fields.extend_from_slice(&quota.full_after_ns.to_be_bytes());
        match quota.wait {
            Wait::None => fields.push(0),
            Wait::Ns(wait_ns) => {
                fields.push(1);
                fields.extend_from_slice(&wait_ns.to_be_bytes());
            }
            Wait::Forever => fields.push(2),
        }
    }
}

/// Reads quotas from a context's fields.
pub(super) fn read(rest: &mut &[u8]) -> Option<Vec<RemainingQuota>> {
    let [count] = take_chunk(rest)?;
    let count = Some(usize::from(count)).filter(|count| *count <= MAX_QUOTAS)?;
    (0..count)
        .map(|_| {
            Some(RemainingQuota {
                left: u64::from_be_bytes(take_chunk(rest)?),
                full_after_ns: u64::from_be_bytes(take_chunk(rest)?),
                wait: match take_chunk(rest)? {
                    [0] => Wait::None,
                    [1] => Wait::Ns(u64::from_be_bytes(take_chunk(rest)?)),
                    [2] => Wait::Forever,
                    _ => return None,
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn quotas_are_read_back_and_other_texts_are_rejected() {
        let quota = |left, wait| RemainingQuota {
            left,
            full_after_ns: 7,
            wait,
        };
        for quotas in [
            Vec::new(),
            vec![quota(0, Wait::Ns(u64::MAX)), quota(u64::MAX, Wait::None)],
            vec![quota(1, Wait::Forever)],
        ] {
            let mut fields = Vec::new();
            write(&quotas, &mut fields);
            assert_eq!(read(&mut fields.as_slice()), Some(quotas));
            for end in 0..fields.len() {
                assert_eq!(read(&mut &fields[..end]), None, "cut at {end}");
            }
        }
        let too_many = [3_u8, 0].repeat(1_000);
        assert_eq!(read(&mut too_many.as_slice()), None);
        let no_wait = [&[1][..], &[0; 16], &[3]].concat();
        assert_eq!(read(&mut no_wait.as_slice()), None);
    }
}
