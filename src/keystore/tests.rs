#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn key() -> SecretKey {
    SecretKey::from_seed([5; 32])
}

fn passphrase(directory: &Path, text: &str) -> Passphrase {
    let file = directory.join("passphrase");
    write_private(&file, format!("{text}\n")).unwrap();
    Passphrase { file: Some(file) }
}

#[test]
fn an_encrypted_file_opens_with_its_passphrase_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    KeyFile::encrypted(&key(), "correct horse").unwrap().write(&path, false).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&hex::encode([5; 32])));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let file = KeyFile::read(&path).unwrap();
    let good = passphrase(directory.path(), "correct horse");
    assert_eq!(file.unlock(&good).unwrap().seed(), key().seed());
    let bad = passphrase(directory.path(), "incorrect horse");
    assert!(matches!(file.unlock(&bad), Err(KeystoreError::WrongPassphrase)));
}

#[test]
fn rejects_an_altered_ciphertext_and_another_public_key() {
    let directory = tempfile::tempdir().unwrap();
    let good = passphrase(directory.path(), "p");
    let mut file = KeyFile::encrypted(&key(), "p").unwrap();
    let other = SecretKey::from_seed([6; 32]).public_key();
    file.public_key = other;
    file.address = other.address();
    assert!(matches!(file.unlock(&good), Err(KeystoreError::WrongPassphrase)));
    let mut plain = KeyFile::plain(&key());
    plain.address = Address::ZERO;
    assert!(matches!(plain.unlock(&good), Err(KeystoreError::Malformed { .. })));
}

#[test]
fn refuses_costs_beyond_the_bounds_before_using_them() {
    let directory = tempfile::tempdir().unwrap();
    let good = passphrase(directory.path(), "p");
    let file = KeyFile::encrypted(&key(), "p").unwrap();
    let alter: [fn(&mut Kdf); 4] = [
        |kdf| kdf.memory_kib = u32::MAX,
        |kdf| kdf.iterations = 17,
        |kdf| kdf.parallelism = 17,
        |kdf| kdf.memory_kib = 0,
    ];
    for alter in alter {
        let mut altered = file.clone();
        alter(altered.kdf.as_mut().unwrap());
        assert!(matches!(altered.unlock(&good), Err(KeystoreError::Cost { .. })));
    }
}

#[test]
fn refuses_a_file_that_others_may_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    KeyFile::plain(&key()).write(&path, false).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyFile::read(&path).unwrap_err();
    assert!(matches!(error, KeystoreError::Permissions { found: 0o640, .. }));
    assert!(error.hint().unwrap().starts_with("run: chmod 600 "));
}

#[test]
fn what_a_service_manager_hands_over_may_be_readable_but_not_changed_by_others() {
    let directory = tempfile::tempdir().unwrap();
    let (handed, other) = (directory.path().join("handed"), directory.path().join("other"));
    fs::create_dir_all(&handed).unwrap();
    fs::create_dir_all(&other).unwrap();
    let allowed = |path: &Path, mode| {
        fs::write(path, "secret").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let metadata = fs::metadata(path).unwrap();
        let result = private::check_but_in(path, &metadata, std::iter::once(&handed));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        result.is_ok()
    };
    let (file, elsewhere) = (handed.join("passphrase"), other.join("passphrase"));
    assert!([0o400, 0o440, 0o444, 0o600].iter().all(|mode| allowed(&file, *mode)));
    assert!([0o460, 0o446, 0o666].iter().all(|mode| !allowed(&file, *mode)));
    assert!([0o400, 0o600].iter().all(|mode| allowed(&elsewhere, *mode)));
    assert!([0o440, 0o444, 0o640].iter().all(|mode| !allowed(&elsewhere, *mode)));
    // A way around leads elsewhere.
    assert!(!allowed(&handed.join("../other/passphrase"), 0o444));
}

#[test]
fn refuses_a_passphrase_file_that_is_open_to_others_or_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let passphrase = passphrase(directory.path(), "p");
    assert_eq!(passphrase.read(false).unwrap().as_str(), "p");
    let path = passphrase.file.clone().unwrap();
    for mode in [0o604, 0o640, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = passphrase.read(false).unwrap_err();
        assert!(matches!(error, KeystoreError::Permissions { found, .. } if found == mode));
        assert!(error.hint().unwrap().contains("chmod 600"));
    }
    write_private(&path, "p".repeat(4_097)).unwrap();
    assert!(matches!(passphrase.read(false), Err(KeystoreError::Io { .. })));
}

#[test]
fn a_key_file_that_cannot_be_read_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    let seed = hex::encode([5; 32]);
    // The seed where the whole file, a number or a name should be, and cut short.
    for text in [
        format!("\"{seed}\""),
        format!("{{\"version\": \"{seed}\"}}"),
        format!("{{\"{seed}\": 1}}"),
        format!("{{\"address\": \"{seed}\"}}"),
        format!("{{\"seed\": \"{seed}"),
        seed.clone(),
    ] {
        write_private(&path, &text).unwrap();
        let error = KeyFile::read(&path).unwrap_err();
        assert!(error.to_string().contains("line 1, column "), "{error}");
        assert!(!format!("{error}{error:?}").contains("0505"), "{error:?}");
    }
}

#[test]
fn secrets_are_not_shown_by_debug() {
    let plain = KeyFile::plain(&key());
    let shown = format!("{plain:?} {:?} {:?}", key(), plain.unlock(&Passphrase::default()));
    assert!(shown.contains("KeyFile(of ") && shown.contains("SecretKey(of "), "{shown}");
    assert!(!shown.contains(&hex::encode([5; 32])) && !shown.contains("[5, 5"), "{shown}");
}

#[test]
fn a_failed_write_leaves_no_copy_of_the_secret() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    // A file cannot take the place of a directory.
    fs::create_dir(&taken).unwrap();
    assert!(write_private(&taken, "secret").is_err());
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names, [taken]);
}

#[test]
fn never_replaces_a_key_unless_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    KeyFile::plain(&key()).write(&path, false).unwrap();
    let other = KeyFile::plain(&SecretKey::from_seed([6; 32]));
    assert!(matches!(other.write(&path, false), Err(KeystoreError::Exists { .. })));
    assert_eq!(KeyFile::read(&path).unwrap().public_key, key().public_key());
    other.write(&path, true).unwrap();
    assert_eq!(KeyFile::read(&path).unwrap(), other);
}

#[test]
fn a_key_argument_is_hex_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    KeyFile::plain(&key()).write(&path, false).unwrap();
    let none = Passphrase::default();
    for argument in [hex::encode([5; 32]), path.to_str().unwrap().to_owned()] {
        assert_eq!(resolve(&argument, &none).unwrap().seed(), key().seed());
    }
    assert!(matches!(resolve("nowhere.json", &none), Err(KeystoreError::Io { .. })));
}
