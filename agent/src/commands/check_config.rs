//! `check-config`: reads the configuration and builds its targets; looks at nothing that it names.

use deploy_core::Registry;
use deploy_core::host::Local;

use crate::cli::Options;
use crate::config::{self, Configuration, ConfiguredTarget};
use crate::exit;
use crate::failure::Failure;
use crate::output::json::{CheckConfig, CheckedTarget};
use crate::output::{self, convert, text};
use crate::service;
use crate::session::absolute;

/// Says whether the configuration is right: 0 or 2.
pub(crate) fn run(options: &Options, registry: &Registry) -> Result<u8, Failure> {
    match config::load(&absolute(&options.config)?, registry, &Local::new()) {
        Ok(configuration) => {
            let document = describe(&configuration);
            document.warnings.iter().for_each(|warning| output::complain(&format!("warning: {}", output::clean(warning))));
            output::print(options.json, &document, text::check_config);
            Ok(exit::SUCCESS)
        }
        Err(error) if options.json => {
            output::complain(&text::failure(&Failure::Configuration(error.clone())));
            output::document(&CheckConfig::from(error));
            Ok(exit::USAGE)
        }
        Err(error) => Err(error.into()),
    }
}

fn describe(configuration: &Configuration) -> CheckConfig {
    let targets: Vec<&ConfiguredTarget> = configuration.targets.iter().collect();
    let mut services = vec![0; targets.len()];
    for (number, group) in service::groups(&targets).into_iter().enumerate() {
        group.into_iter().for_each(|index| services[index] = number + 1);
    }
    let describe = |(target, service): (&&ConfiguredTarget, usize)| CheckedTarget {
        target: target.name.clone(),
        kind: target.kind.clone(),
        certificate: target.certificate.clone(),
        service,
    };
    CheckConfig {
        valid: true,
        files: configuration.files.iter().map(|file| convert::path(file)).collect(),
        certificates: configuration.certificates.clone(),
        targets: targets.iter().zip(services).map(describe).collect(),
        warnings: configuration.warnings.iter().map(ToString::to_string).collect(),
        problems: Vec::new(),
        error: None,
    }
}
