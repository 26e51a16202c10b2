//! Whether a client's certificate names the user it logs in as. Reading certificates is done elsewhere.

/// The names of a certificate that was verified against the configured authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
}

impl CertificateNames {
    /// Names are compared whole and by case: a role `App` is not `app`, and `*` stands for itself.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        let named = |name: &str| !name.is_empty() && name == user;
        self.common_name.as_deref().is_some_and(named) || self.dns_names.iter().any(|name| named(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_name_or_dns_name_must_equal_the_user() {
        let names = CertificateNames {
            common_name: Some("app".into()),
            dns_names: vec!["app.internal".into(), "*.internal".into()],
        };
        assert!(names.contains("app") && names.contains("app.internal"));
        for other in ["App", "ap", "app\0", "x.internal", ""] {
            assert!(!names.contains(other), "{other}");
        }
        assert!(!CertificateNames::default().contains(""));
        assert!(
            !CertificateNames {
                common_name: Some(String::new()),
                dns_names: vec![]
            }
            .contains("")
        );
    }
}
