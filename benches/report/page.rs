//! The page: what is between markers is written anew, the rest stays.

use crate::table::Table;

const BEGIN: &str = "<!-- table: ";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- end -->";

/// The text with each table in its place, and what went wrong: markers that have no table
/// or no end. Those stay as they are.
pub fn fill(text: &str, tables: &[Table]) -> (String, Vec<String>) {
    let (mut page, mut wrong) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let (before, marked) = rest.split_at(begin);
        page.push_str(before);
        let name = marked[BEGIN.len()..].split(BEGIN_END).next().unwrap_or_default();
        let Some(end) = marked.find(END) else {
            wrong.push(format!("the table {name:?} has no end"));
            rest = marked;
            break;
        };
        let (old, after) = marked.split_at(end + END.len());
        match tables.iter().find(|table| table.name == name) {
            Some(table) => {
                let table = table.markdown();
                page.push_str(&format!("{BEGIN}{name}{BEGIN_END}\n\n{table}\n{END}"));
            }
            None => {
                wrong.push(format!("nobody has measured {name:?}"));
                page.push_str(old);
            }
        }
        rest = after;
    }
    page.push_str(rest);
    (page, wrong)
}

/// The names that the text has a place for.
pub fn places(text: &str) -> Vec<&str> {
    let marked = text.split(BEGIN).skip(1);
    marked.filter_map(|marked| marked.split(BEGIN_END).next()).collect()
}
