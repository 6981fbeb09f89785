//! The binary `deploy-tool`. (The package `copal` builds it, beside `copal` itself.)

fn main() -> std::process::ExitCode {
    deploy_tool::main()
}
