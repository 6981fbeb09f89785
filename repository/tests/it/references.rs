//! References: their names, their durability, what Git sees.

use super::*;

#[test]
fn set_and_removed() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"1")], &[]);
    let two = deploy(&repository, &[("a", b"2")], &[one]);
    repository.set_reference("refs/heads/production/webapp/default/shop", Some(one)).unwrap();
    repository.set_reference("refs/tags/v1", Some(two)).unwrap();
    repository.set_reference("refs/tags/v1", None).unwrap();
    repository.set_reference("refs/tags/never", None).unwrap();
    let names: Vec<_> =
        Repository::open(repository.path()).unwrap().references().unwrap().into_iter().collect();
    let expected =
        [("refs/heads/main".to_owned(), two), ("refs/heads/production/webapp/default/shop".to_owned(), one)];
    assert_eq!(names, expected);
    let Some(git) = Git::at(repository.path()) else { return };
    let seen = git.run(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    assert_eq!(seen, expected.map(|(name, id)| format!("{name} {id}")).join("\n"));
    git.fsck();
}

#[test]
fn names_and_targets_that_are_refused() {
    let (_folder, repository) = fresh();
    let id = deploy(&repository, &[("a", b"1")], &[]);
    let set = |name: &str, to| repository.set_reference(name, Some(to)).map_err(|it| it.to_string());
    for name in [
        "",
        "HEAD",
        "main",
        "refs",
        "refs/",
        "refs/heads/",
        "refs/heads/a..b",
        "refs/heads/a.lock",
        "refs/heads/a b",
        "refs/../config",
        "refs/heads/.a",
        "refs/heads/a\n",
        "refs/heads//a",
        "refs/heads/HEAD",
        "refs/heads/@{x",
    ] {
        assert!(set(name, id).unwrap_err().contains("can't be a reference's name"), "{name:?}");
    }
    set("refs/heads/a", id).unwrap();
    assert!(set("refs/heads/a/b", id).unwrap_err().contains("can't be beside \"refs/heads/a\""));
    assert!(set("refs/heads", id).unwrap_err().contains("can't be beside"));
    set("refs/heads/a-b", id).unwrap();
    let tree = repository.commit_info(id).unwrap().tree;
    assert!(set("refs/heads/t", tree).unwrap_err().contains("is a tree, and a commit was expected"));
    set("refs/tags/t", tree).unwrap();
    assert!(set("refs/heads/n", ObjectId::from([3; 20])).unwrap_err().contains("is missing"));
}

#[test]
fn those_that_git_wrote_are_taken_in() {
    let (_folder, repository) = fresh();
    let id = deploy(&repository, &[("a", b"1")], &[]);
    let path = repository.path().to_owned();
    drop(repository);
    let Some(git) = Git::at(&path) else { return };
    git.run(&["update-ref", "refs/heads/x/y", &id.to_string()]);
    git.run(&["pack-refs", "--all"]);
    git.run(&["update-ref", "refs/heads/x/z", &id.to_string()]);
    let repository = Repository::open(&path).unwrap();
    assert_eq!(repository.references().unwrap().len(), 3);
    repository.set_reference("refs/heads/x/z", None).unwrap();
    assert_eq!(git.run(&["for-each-ref"]).lines().count(), 2);
}
