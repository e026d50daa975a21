use std::collections::{BTreeSet, VecDeque};

use rstest::rstest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::certificates::leaf::Issued;

const HOUR: u64 = 3600;
const LIFETIMES: Lifetimes = Lifetimes {
    authority: Duration::from_secs(900 * HOUR),
    leaf: Duration::from_secs(100 * HOUR),
    announcement: Duration::from_secs(HOUR),
};
const START: UnixSeconds = UnixSeconds(1_800_000_000);

fn at(hours: u64) -> UnixSeconds {
    UnixSeconds(START.0 + hours * HOUR)
}

fn take(authorities: &Authorities, now: UnixSeconds) -> Authorities {
    let step = authorities.due(now, &LIFETIMES);
    authorities
        .take(step, now, &LIFETIMES)
        .unwrap()
        .unwrap_or_else(|| authorities.clone())
}

#[test]
fn an_authority_is_announced_before_it_signs_and_trusted_after_it_did() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    assert_eq!(first.due(at(599), &LIFETIMES), Step::Keep);

    assert_eq!(first.due(at(600), &LIFETIMES), Step::Announce);
    let announced = take(&first, at(600));
    assert_eq!(announced.current, first.current);
    let next = announced.next.clone().unwrap();
    assert!(announced.bundle().contains(&next.certificate));
    assert_eq!(
        announced.due(UnixSeconds(at(601).0 - 1), &LIFETIMES),
        Step::Keep
    );

    assert_eq!(announced.due(at(601), &LIFETIMES), Step::Promote);
    let promoted = take(&announced, at(601));
    assert_eq!(promoted.current, next);
    assert!(promoted.bundle().contains(&first.current.certificate));
    assert_eq!(promoted.due(at(700), &LIFETIMES), Step::Keep);

    assert_eq!(promoted.due(at(701), &LIFETIMES), Step::Forget);
    assert!(
        !take(&promoted, at(701))
            .bundle()
            .contains(&first.current.certificate)
    );
}

#[rstest]
#[case(899, Step::Announce)]
#[case(900, Step::Replace)]
#[case(9000, Step::Replace)]
fn an_operator_that_slept_for_long_catches_up(#[case] hours: u64, #[case] step: Step) {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    assert_eq!(first.due(at(hours), &LIFETIMES), step);
    assert!(take(&first, at(hours)).current.not_after > at(hours));
}

#[test]
fn every_certificate_in_use_is_trusted_before_and_after_each_step() {
    const STEPS_PER_HOUR: usize = 3;
    let mut authorities = Authorities::create(START, &LIFETIMES).unwrap();
    let mut certificates = vec![Issued::by(&authorities.current, START); STEPS_PER_HOUR];
    // Whoever hears of a change as late as the announcement allows trusts the oldest of these.
    let mut bundles = VecDeque::from(vec![authorities.bundle(); STEPS_PER_HOUR]);
    let mut signers = BTreeSet::new();
    for step in 1..4000 * STEPS_PER_HOUR {
        let now = START.after(Duration::from_secs(HOUR) * u32::try_from(step).unwrap() / 3);
        authorities = take(&authorities, now);
        bundles.push_back(authorities.bundle());
        // Each replica looks once in an hour.
        let certificate = &mut certificates[step % STEPS_PER_HOUR];
        if !certificate.is_fresh(&authorities.current, now, &LIFETIMES) {
            *certificate = Issued::by(&authorities.current, now);
            signers.insert(certificate.signer.clone());
        }
        for bundle in &bundles {
            for certificate in &certificates {
                assert!(bundle.contains(&certificate.signer), "step {step}");
            }
        }
        bundles.pop_front();
    }
    assert!(signers.len() > 5, "{}", signers.len());
}

#[test]
fn an_old_authority_is_trusted_until_its_last_certificate_has_ended() {
    let promoted = take(
        &take(&Authorities::create(START, &LIFETIMES).unwrap(), at(600)),
        at(601),
    );
    assert_eq!(promoted.next, None);
    assert_eq!(promoted.retired.len(), 1);
    assert_eq!(promoted.retired[0].trusted_until, at(701));
}

#[test]
fn only_what_has_ended_is_forgotten() {
    let retired = |name: &str, hours| Retired {
        certificate: name.to_owned(),
        trusted_until: at(hours),
    };
    let mut authorities = Authorities::create(START, &LIFETIMES).unwrap();
    authorities.retired = vec![retired("one", 10), retired("two", 11)];
    assert_eq!(authorities.due(at(9), &LIFETIMES), Step::Keep);
    assert_eq!(authorities.due(at(10), &LIFETIMES), Step::Forget);
    assert_eq!(take(&authorities, at(10)).retired, [retired("two", 11)]);
}

#[rstest]
#[case::nothing_is_due(Step::Keep)]
#[case::nobody_was_announced(Step::Promote)]
fn a_step_that_changes_nothing_writes_nothing(#[case] step: Step) {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    assert_eq!(first.take(step, at(1), &LIFETIMES).unwrap(), None);
}

#[test]
fn a_clock_that_was_set_back_hurries_nothing() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    let announced = take(&first, at(600));
    let long_ago = UnixSeconds(START.0 - 1000 * HOUR);
    assert_eq!(first.due(long_ago, &LIFETIMES), Step::Keep);
    assert_eq!(announced.due(long_ago, &LIFETIMES), Step::Keep);
}

#[test]
fn a_bundle_has_every_certificate_once() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    let promoted = take(&take(&first, at(600)), at(601));
    let announced = promoted.take(Step::Announce, at(602), &LIFETIMES);
    let announced = announced.unwrap().unwrap();
    let bundle = announced.bundle();
    let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(bundle.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let expected = [
        announced.current.certificate,
        announced.next.unwrap().certificate,
        first.current.certificate,
    ];
    let expected = expected.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
    assert_eq!(certificates, expected);
}

#[test]
fn an_authority_signs_certificates_and_no_other_authorities() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    let der = CertificateDer::from_pem_slice(first.current.certificate.as_bytes()).unwrap();
    // BasicConstraints with cA true and pathLenConstraint 0 (RFC 5280 §4.2.1.9).
    let constraints = [0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
    assert!(
        der.windows(constraints.len())
            .any(|part| part == constraints)
    );
}

#[test]
fn a_certificate_counts_from_a_little_before_it_was_made() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    let der = CertificateDer::from_pem_slice(first.current.certificate.as_bytes()).unwrap();
    let has = |text: &str| der.windows(text.len()).any(|part| part == text.as_bytes());
    // 2027-01-15T08:00:00Z less five minutes, and plus 900 hours (RFC 5280 §4.1.2.5.1).
    assert!(has("270115075500Z") && has("270221200000Z"));
    assert_eq!(first.current.not_after, at(900));
}

#[test]
fn no_two_authorities_have_the_same_name() {
    let first = Authorities::create(START, &LIFETIMES).unwrap();
    let announced = take(&first, at(600));
    let named = |authority: &Authority| {
        let der = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
        let name = format!("globus-auth {}", authority.created_at.0);
        der.windows(name.len()).any(|part| part == name.as_bytes())
    };
    let next = announced.next.unwrap();
    assert!(named(&first.current) && named(&next));
    assert_ne!(first.current.created_at, next.created_at);
}

#[test]
fn debug_output_has_no_key() {
    let authorities = Authorities::create(START, &LIFETIMES).unwrap();
    assert!(!format!("{authorities:?}").contains("PRIVATE KEY"));
}
