//! Whole-binary tests, one program. A file of this folder that is not listed here fails `every_file_is_listed`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "tests may fail loudly"
)]

mod acts_audit;
mod acts_caller;
mod acts_credentials;
mod acts_deciders;
mod acts_hidden;
mod adapter_board;
mod adapter_board_github;
mod adapter_board_recorded;
mod adapter_checkout;
mod adapter_executor;
mod adapter_forge;
mod adapter_forge_faults;
mod adapter_forge_github;
mod adapter_forge_recorded;
mod adapter_git;
mod adapter_git_remote;
mod adapter_notify;
mod adapter_notify_sinks;
mod ci_action;
mod cmd_config;
mod cmd_demo;
mod cmd_doctor;
mod cmd_doctor_services;
mod cmd_explain;
mod cmd_habits;
mod cmd_init;
mod cmd_init_try;
mod cmd_logs;
mod cmd_output;
mod cmd_page;
mod cmd_post_deploy_probe;
mod cmd_report;
mod cmd_security_scan;
mod cmd_shell;
mod cmd_show;
mod cmd_staging_check;
mod cmd_status;
mod confine_cache;
mod confine_history;
mod confine_work;
mod confined_pipeline;
mod cost;
mod crash_guard;
mod crash_hazards;
mod crash_reap;
mod crash_stop;
mod crash_storm;
mod crash_sweep;
mod docs_cli;
mod docs_handoff;
mod docs_pages;
mod docs_recipes;
mod docs_setups;
mod docs_words;
mod fake_gitea;
mod fuzz_replay;
mod hostile_build;
mod hostile_confine;
mod hostile_git_walk;
mod hostile_left;
mod hostile_lfs;
mod judge_approval;
mod judge_inputs;
mod judge_review;
mod judge_scripts;
mod keeping_house;
mod many_projects;
mod network;
mod nights;
mod outside_claude;
mod outside_gitea;
mod outside_github;
mod outside_github_queue;
mod outside_github_trials;
mod outside_hands;
mod outside_outages;
mod outside_plane;
mod outside_plane_requests;
mod outside_refused;
mod outside_telegram;
mod outside_telegram_answers;
mod package;
mod readme;
mod runtime_claude_real;
mod scenes_abuse;
mod scenes_agents;
mod scenes_answers;
mod scenes_asked;
mod scenes_base;
mod scenes_board;
mod scenes_faults;
mod scenes_git;
mod scenes_ground;
mod scenes_queue;
mod security_hidden;
mod security_recall;
mod ship_audit;
mod ship_deploy;
mod ship_landing;
mod ship_merge;
mod ship_secrets;
mod ship_staging;
mod ship_watch;
mod slurm_faults;
mod slurm_real;
mod support;
mod systemd_real;

#[test]
fn every_file_is_listed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let main = std::fs::read_to_string(format!("{folder}/main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not listed in main.rs");
    }
}
