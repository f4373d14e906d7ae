//! The text of cards and alerts in every language. Each text is one match over all languages, so none can be left out.

use crate::model::card::{AlertKind, Locale};
use crate::model::stage::{Stage, words};

words! {
    /// A fixed text of a card.
    Word {
        Total = "total",
        Attempt = "attempt",
        Tokens = "tokens",
        AskApproval = "ask_approval",
        AskApprovalByCommand = "ask_approval_by_command",
        AskConfirm = "ask_confirm",
        AskConfirmByCommand = "ask_confirm_by_command",
        AskBlocked = "ask_blocked",
        AskWithdrawn = "ask_withdrawn",
        AskForge = "ask_forge",
        AskFrozen = "ask_frozen",
        Inputs = "inputs",
        PullRequest = "pull_request",
        Branch = "branch",
        Changed = "changed",
        ChangedOne = "changed_one",
        Verdict = "verdict",
        DeployCommand = "deploy_command",
        DeployUser = "deploy_user",
        ReadShow = "read_show",
        ReadDiff = "read_diff",
        Repeated = "repeated",
        Working = "working",
        Continued = "continued",
    }
}

/// A fixed text. `{key}` stands for the work item's key, `{status}` for the board status that answers a question.
pub fn word(locale: Locale, word: Word) -> &'static str {
    let (en, ru) = match word {
        Word::Total => ("Total", "Всего"),
        Word::Attempt => ("attempt", "попытка"),
        Word::Tokens => ("tokens", "токенов"),
        Word::AskApproval => (
            "Approval wanted: set {status} on the board, or run orch advance {key} --approve",
            "Нужно одобрение: поставьте {status} на доске или выполните orch advance {key} --approve",
        ),
        Word::AskConfirm => (
            "Deploy confirmation wanted: set {status} on the board, or run orch advance {key} --confirm-deploy",
            "Подтвердите выкладку: поставьте {status} на доске или выполните orch advance {key} --confirm-deploy",
        ),
        Word::AskApprovalByCommand => (
            "Approval wanted: run orch advance {key} --approve (the board has no status for it)",
            "Нужно одобрение: выполните orch advance {key} --approve (на доске нет такого статуса)",
        ),
        Word::AskConfirmByCommand => (
            "Deploy confirmation wanted: run orch advance {key} --confirm-deploy (the board has no status for it)",
            "Подтвердите выкладку: выполните orch advance {key} --confirm-deploy (на доске нет такого статуса)",
        ),
        Word::AskBlocked => ("Blocked; orch retry {key} lifts it", "Заблокировано; снять: orch retry {key}"),
        Word::AskWithdrawn => ("Withdrawn by a person", "Отозвано человеком"),
        Word::AskForge => ("The forge does not merge yet", "Форж пока не сливает"),
        Word::AskFrozen => ("The repository is frozen", "Репозиторий заморожен"),
        Word::Inputs => ("Changes what CI means", "Меняет смысл CI"),
        Word::PullRequest => ("Pull request", "Запрос на слияние"),
        Word::Branch => ("branch: {branch}", "ветка: {branch}"),
        Word::Changed => ("{files} files changed, head {head}", "изменено файлов: {files}, вершина {head}"),
        Word::ChangedOne => ("{files} file changed, head {head}", "изменён {files} файл, вершина {head}"),
        Word::Verdict => ("{gate}: {verdict} on {commit}", "{gate}: {verdict} на {commit}"),
        Word::DeployCommand => ("deploy command: {command}", "команда выкладки: {command}"),
        Word::DeployUser => ("deploy runs the landed code as {user}", "выкладка запускает слитый код от имени {user}"),
        Word::ReadShow => ("read it: orch show {key}", "прочитать: orch show {key}"),
        Word::ReadDiff => ("read it: orch diff {key}", "прочитать: orch diff {key}"),
        Word::Repeated => (
            "This may be a duplicate: it is unknown whether the first message arrived.",
            "Возможно, это повтор: дошло ли первое сообщение, неизвестно.",
        ),
        Word::Working => ("…", "…"),
        Word::Continued => ("continued in a newer message", "продолжение в новом сообщении"),
    };
    pick(locale, en, ru)
}

fn pick(locale: Locale, en: &'static str, ru: &'static str) -> &'static str {
    match locale {
        Locale::En => en,
        Locale::Ru => ru,
    }
}

/// The task's status for people (NTF-1): the name of the board's base status where there is one.
pub fn status_label(locale: Locale, stage: Stage) -> &'static str {
    let (en, ru) = match stage {
        Stage::Created => ("To Analyse", "К анализу"),
        Stage::Analysis => ("Analysis", "Анализ"),
        Stage::Architecture => ("Architecture", "Архитектура"),
        Stage::Development => ("Development", "Разработка"),
        Stage::Review => ("Review", "Ревью"),
        Stage::Testing => ("Testing", "Тестирование"),
        Stage::DeployStaging => ("Deploying (staging)", "Выкладка (staging)"),
        Stage::Deploy => ("Deploying", "Выкладка"),
        Stage::Done => ("Done", "Готово"),
        Stage::Cancelled => ("Cancelled", "Отменено"),
    };
    pick(locale, en, ru)
}

/// The label of a stored stage name. An unknown one is shown as it is, capitalised.
pub fn label_of_word(locale: Locale, text: &str) -> String {
    if let Some(stage) = Stage::parse(text) {
        return status_label(locale, stage).to_owned();
    }
    let mut letters = text.trim().chars();
    letters.next().map_or_else(|| "?".to_owned(), |first| first.to_uppercase().chain(letters).collect())
}

/// The name of a stage's line.
pub fn stage_name(locale: Locale, stage: Stage) -> &'static str {
    let (en, ru) = match stage {
        Stage::Created => ("Created", "Создано"),
        Stage::Analysis => ("Analysis", "Анализ"),
        Stage::Architecture => ("Architecture", "Архитектура"),
        Stage::Development => ("Development", "Разработка"),
        Stage::Review => ("Review", "Ревью"),
        Stage::Testing => ("Testing", "Тестирование"),
        Stage::DeployStaging => ("Staging", "Staging"),
        Stage::Deploy => ("Deploy", "Выкладка"),
        Stage::Done => ("After done", "После завершения"),
        Stage::Cancelled => ("After stop", "После остановки"),
    };
    pick(locale, en, ru)
}

/// An alert's headline.
pub fn alert_title(locale: Locale, kind: AlertKind) -> &'static str {
    let (en, ru) = match kind {
        AlertKind::ApprovalWanted => ("Approval wanted", "Нужно одобрение"),
        AlertKind::ConfirmDeployWanted => ("Deploy confirmation wanted", "Нужно подтверждение выкладки"),
        AlertKind::AutoApproveUsed => ("Approved by label", "Одобрено по метке"),
        AlertKind::AutoDeployUsed => ("Deploy confirmed by label", "Выкладка разрешена по метке"),
        AlertKind::Blocked => ("Blocked", "Заблокировано"),
        AlertKind::Degraded => ("Degraded after a deploy", "Ухудшение после выкладки"),
        AlertKind::Frozen => ("Repository frozen", "Репозиторий заморожен"),
        AlertKind::Cancelled => ("Cancelled", "Отменено"),
        AlertKind::StopDeferred => ("Stop delayed", "Остановка применена не сразу"),
        AlertKind::CostLimit => ("Cost limit reached", "Достигнут предел расходов"),
        AlertKind::UsageLimit => ("Usage limit reached", "Исчерпан лимит использования"),
        AlertKind::ServiceDown => ("A service is down", "Сервис давно недоступен"),
        AlertKind::ServiceBack => ("A service answers again", "Сервис снова отвечает"),
        AlertKind::BaseRed => ("The base is red", "База не проходит проверку"),
        AlertKind::DefaultBranch => ("The default branch changed", "Ветка по умолчанию изменилась"),
        AlertKind::BaseGreen => ("The base is green again", "База снова проходит проверку"),
        AlertKind::GuardChanged => ("Guard settings changed", "Изменены настройки защиты"),
        AlertKind::Withdrawn => ("Withdrawn by a person", "Отозвано человеком"),
        AlertKind::ForgeWaits => ("The forge waits for a person", "Форж ждёт человека"),
        AlertKind::RolledBack => ("Production rolled back", "Выполнен откат"),
        AlertKind::Confinement => ("Nothing starts: runs can't be confined", "Ничего не запускается: нет изоляции"),
        AlertKind::SecretFound => ("An agent's work contained a secret", "В работе агента найден секрет"),
        AlertKind::ArtefactsRefused => ("A deploy's record was refused", "Запись о выкладке не принята"),
        AlertKind::MessageParked => ("A message was refused", "Сообщение отклонено"),
    };
    pick(locale, en, ru)
}

/// Units of a duration: hours, minutes, seconds.
pub fn units(locale: Locale) -> [&'static str; 3] {
    match locale {
        Locale::En => ["h", "m", "s"],
        Locale::Ru => ["ч", "м", "с"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_language_has_every_text() {
        for locale in Locale::ALL {
            let mut all: Vec<&str> = Word::ALL.iter().map(|w| word(*locale, *w)).collect();
            all.extend(Stage::ALL.iter().map(|s| status_label(*locale, *s)));
            all.extend(Stage::ALL.iter().map(|s| stage_name(*locale, *s)));
            all.extend(AlertKind::ALL.iter().map(|k| alert_title(*locale, *k)));
            all.extend(units(*locale));
            assert!(all.iter().all(|t| !t.trim().is_empty()), "{locale}");
            let labels: HashSet<&str> = Stage::ALL.iter().map(|s| status_label(*locale, *s)).collect();
            assert_eq!(labels.len(), Stage::ALL.len(), "{locale}: two stages share a label");
            let titles: HashSet<&str> = AlertKind::ALL.iter().map(|k| alert_title(*locale, *k)).collect();
            assert_eq!(titles.len(), AlertKind::ALL.len());
        }
    }

    #[test]
    fn languages_differ_and_keep_their_placeholders() {
        let cyrillic = |t: &str| t.chars().any(|c| ('а'..='я').contains(&c.to_lowercase().next().unwrap_or(c)));
        for w in Word::ALL {
            let (en, ru) = (word(Locale::En, *w), word(Locale::Ru, *w));
            for place in [
                "{key}",
                "{status}",
                "{branch}",
                "{files}",
                "{head}",
                "{gate}",
                "{verdict}",
                "{commit}",
                "{command}",
                "{user}",
            ] {
                assert_eq!(en.matches(place).count(), ru.matches(place).count(), "{w}");
            }
            assert!(!cyrillic(en), "{w}");
            assert!(*w == Word::Working || cyrillic(ru), "{w}");
        }
        for kind in AlertKind::ALL {
            assert!(cyrillic(alert_title(Locale::Ru, *kind)) && !cyrillic(alert_title(Locale::En, *kind)));
        }
    }

    #[test]
    fn a_stage_outside_the_table_gets_its_own_name() {
        assert_eq!(label_of_word(Locale::En, "created"), "To Analyse");
        assert_eq!(label_of_word(Locale::En, "deploy-staging"), "Deploying (staging)");
        assert_eq!(label_of_word(Locale::En, "cancelled"), "Cancelled");
        assert_eq!(label_of_word(Locale::En, "canary"), "Canary");
        assert_eq!(label_of_word(Locale::Ru, "ßx"), "SSx");
        assert_eq!(label_of_word(Locale::En, " "), "?");
    }
}
