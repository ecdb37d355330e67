//! Hugging Face chat templates. They are written for Jinja2 with transformers' extensions; what minijinja does
//! otherwise (printing, some tests, `{% generation %}`) is mended here.

use crate::python::{self, JsonStyle};
use minijinja::value::{merge_maps, Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

const NAME: &str = "chat template";
const OPEN: &str = "__generation_open";
const CLOSE: &str = "__generation_close";

pub struct Template {
    environment: Environment<'static>,
    has_generation: bool,
}

/// The text, and the [begin, end) bytes of what stood inside `{% generation %}`.
pub struct Rendered {
    pub text: String,
    pub spans: Vec<[u64; 2]>,
}

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// minijinja has no `{% generation %}`. A filter block is the same shape (a block tag, so whitespace control stays as
/// it was) and sees the text of its body, which it marks.
fn generation_to_filter(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let name = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..start + 2]);
        match name {
            "generation" | "endgeneration" => {
                let filter = if name == "generation" { "filter __generation" } else { "endfilter" };
                out.push_str(&tag.replacen(name, filter, 1));
                found = true;
                rest = &rest[start + length..];
            }
            _ => rest = &rest[start + 2..],
        }
    }
    out.push_str(rest);
    (out, found)
}

fn generation(state: &State, body: String) -> String {
    let marker = |name: &str| state.lookup(name).map_or(String::new(), |v| v.to_string());
    format!("{}{body}{}", marker(OPEN), marker(CLOSE))
}

/// Two non-characters that occur in neither the template nor its input.
fn markers(used: &[&str]) -> Result<(char, char), String> {
    let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|&c| !used.iter().any(|text| text.contains(c)));
    free.next().zip(free.next()).ok_or_else(|| "the conversation uses all Unicode non-characters".into())
}

fn cut_markers(marked: &str, open: char, close: char) -> Rendered {
    let mut rendered = Rendered { text: String::with_capacity(marked.len()), spans: Vec::new() };
    let mut begin = None;
    for c in marked.chars() {
        if c == open {
            begin = Some(rendered.text.len() as u64);
        } else if c == close {
            if let Some(begin) = begin.take() {
                rendered.spans.push([begin, rendered.text.len() as u64]);
            }
        } else {
            rendered.text.push(c);
        }
    }
    rendered
}

fn tojson(value: Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = indent.or(options.get("indent")?);
    let indent = match indent {
        Some(v) if v.is_number() => Some(" ".repeat(usize::try_from(v)?)),
        Some(v) if !v.is_none() => Some(v.to_string()),
        _ => None,
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let item_separator = if indent.is_some() { "," } else { ", " };
    let mut style = JsonStyle {
        indent,
        item_separator: item_separator.into(),
        key_separator: ": ".into(),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    if let Some([item, key]) = separators.as_deref() {
        style.item_separator = item.clone();
        style.key_separator = key.clone();
    }
    options.assert_all_used()?;
    Ok(Value::from_safe_string(python::json(&value, &style)?))
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(error(message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    let format = std::ffi::CString::new(format).map_err(|_| error("strftime_now: NUL in the format"))?;
    let mut buffer = [0u8; 512];
    // SAFETY: `now` and `parts` live through the calls, the buffer's length is passed along.
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(error("strftime_now: no local time"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &parts)
    };
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// String methods that templates use and `pycompat` lacks.
fn more_methods(value: &Value, method: &str, args: &[Value]) -> Option<Value> {
    let (text, argument) = (value.as_str()?, args.first()?.as_str()?);
    let parts = |found: Option<(&str, &str)>, otherwise: [&str; 3]| {
        let parts = found.map_or(otherwise, |(before, after)| [before, argument, after]);
        Value::from(parts.map(Value::from).to_vec())
    };
    match method {
        "removeprefix" => Some(text.strip_prefix(argument).unwrap_or(text).into()),
        "removesuffix" => Some(text.strip_suffix(argument).unwrap_or(text).into()),
        "partition" => Some(parts(text.split_once(argument), [text, "", ""])),
        "rpartition" => Some(parts(text.rsplit_once(argument), ["", "", text])),
        "rsplit" => {
            let limit = args.get(1).and_then(|v| usize::try_from(v.clone()).ok()).unwrap_or(usize::MAX - 1);
            let mut pieces: Vec<Value> = text.rsplitn(limit + 1, argument).map(Value::from).collect();
            pieces.reverse();
            Some(pieces.into())
        }
        _ => None,
    }
}

fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String | ValueKind::Plain | ValueKind::Invalid => minijinja::escape_formatter(out, state, value),
        _ => Ok(out.write_str(&python::str(value)?)?),
    });
    env.set_unknown_method_callback(|state, value, method, args| match more_methods(value, method, args) {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    });
    env.add_filter("__generation", generation);
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: Value| python::str(&value));
    env.add_test("sequence", |value: Value| is_sequence(&value));
    env.add_test("iterable", |value: Value| is_iterable(&value));
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env
}

/// The message and, where the template went wrong, its line.
fn describe(error: &Error) -> String {
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{message} (line {line} of the template)"),
        None => message,
    }
}

impl Template {
    pub fn new(source: &str) -> Result<Self, String> {
        let (source, has_generation) = generation_to_filter(&source.replace("\r\n", "\n"));
        let mut environment = environment();
        environment.add_template_owned(NAME, source).map_err(|e| describe(&e))?;
        Ok(Template { environment, has_generation })
    }

    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// `variables`: a JSON object of everything that the template sees.
    pub fn render(&self, variables: &str) -> Result<Rendered, String> {
        let values: Value =
            serde_json::from_str(variables).map_err(|e| format!("template variables: {e}"))?;
        let template = self.environment.get_template(NAME).map_err(|e| describe(&e))?;
        let render = |values: Value| template.render(values).map_err(|e| describe(&e));
        if !self.has_generation {
            return Ok(Rendered { text: render(values)?, spans: Vec::new() });
        }
        let (open, close) = markers(&[variables])?;
        let marks = Value::from_iter([(OPEN, open.to_string()), (CLOSE, close.to_string())]);
        let text = render(merge_maps([marks, values]))?;
        Ok(cut_markers(&text, open, close))
    }
}
