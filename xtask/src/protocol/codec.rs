//! Writes the bodies of the functions that encode and decode a struct.

use std::fmt::Write as _;

use super::condition::{Condition, condition};
use super::emit::{Emitter, line};
use super::fields::{default_expression, is_optional, not_default, simple_name};
use super::names;
use super::schema::{Field, Type};

impl Emitter<'_> {
    /// Statements that write `self` to `out`.
    pub(crate) fn write_body(&self, out: &mut String) {
        for field in &self.part.fields {
            let present = condition(field.versions, self.part.versions);
            let write = if field.tag.is_some() { String::new() } else { self.write_field(field) };
            let refuse = match field.ignorable {
                true => String::new(),
                false => format!(
                    "if {} {{\nreturn Err(EncodeError::Unsupported {{ field: {}, version }});\n}}",
                    not_default(field),
                    self.label(field)
                ),
            };
            match present {
                Condition::Always => out.push_str(&write),
                Condition::Never => out.push_str(&refuse),
                Condition::When { yes, no } => match (write.is_empty(), refuse.is_empty()) {
                    (true, true) => {}
                    (true, false) => {
                        let refuse = refuse.strip_prefix("if ").unwrap_or(&refuse);
                        let _ = write!(out, "if {no} && {refuse}");
                    }
                    (false, true) => {
                        let _ = write!(out, "if {yes} {{\n{write}}}");
                    }
                    (false, false) => {
                        let _ = write!(out, "if {yes} {{\n{write}}} else {refuse}");
                    }
                },
            }
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
        }
        match self.flexible() {
            Condition::Always => self.write_tagged(out),
            Condition::Never => {}
            Condition::When { yes, .. } => {
                let _ = writeln!(out, "if {yes} {{");
                self.write_tagged(out);
                out.push_str("}\n");
            }
        }
        out.push_str("Ok(())\n");
    }

    fn write_tagged(&self, out: &mut String) {
        let mut fields: Vec<&Field> = self.tagged().collect();
        fields.sort_by_key(|field| field.tag);
        let presence: Vec<String> = fields
            .iter()
            .map(|field| {
                match condition(field.versions, self.part.versions.intersect(self.message.flexible)) {
                    Condition::When { yes, .. } => format!("{yes} && {}", not_default(field)),
                    _ => not_default(field),
                }
            })
            .collect();
        if fields.is_empty() {
            out.push_str("out.put_tag_count(&[]);\n");
            return;
        }
        line(out, format_args!("let present = [{}];\nout.put_tag_count(&present);", presence.join(", ")));
        for (index, field) in fields.iter().enumerate() {
            line(
                out,
                format_args!(
                    "if present[{index}] {{\nlet start = out.begin_tagged({});\n{}out.end_tagged(start);\n}}",
                    field.tag.unwrap_or_default(),
                    self.write_field(field)
                ),
            );
        }
    }

    fn write_field(&self, field: &Field) -> String {
        let place = format!("self.{}", names::field(&field.name));
        let label = self.label(field);
        let flexible = self.flexible().expression();
        let optional = is_optional(field);
        let nullable = condition(field.nullable, self.part.versions.intersect(field.versions)).expression();
        let put = |what: &str, value: String| match optional {
            true => format!("out.put_nullable_{what}({flexible}, {nullable}, {value}, {label})?;\n"),
            false => format!("out.put_{what}({flexible}, &{place}, {label})?;\n"),
        };
        match &field.of {
            Type::String => put("string", format!("{place}.as_deref()")),
            Type::Bytes => put("bytes", format!("{place}.as_ref()")),
            Type::Records => {
                format!("out.put_records({flexible}, {nullable}, {place}.as_ref(), {label})?;\n")
            }
            Type::Array(_) if optional => {
                format!(
                    "out.put_nullable_array(version, {flexible}, {nullable}, {place}.as_ref(), {label})?;\n"
                )
            }
            Type::Array(_) => format!("out.put_array(version, {flexible}, &{place}, {label})?;\n"),
            Type::Struct(_) if optional => format!(
                "out.put_presence({place}.is_some());\nif let Some(value) = &{place} {{\n\
                 value.write(version, {flexible}, {label}, out)?;\n}}\n"
            ),
            Type::Struct(_) => format!("{place}.write(version, {flexible}, {label}, out)?;\n"),
            simple => format!("out.put_{}({place});\n", simple_name(simple)),
        }
    }

    /// Statements that read a struct from `input`.
    pub(crate) fn read_body(&self, out: &mut String) {
        let tagged = self.tagged().next().is_some();
        out.push_str(if tagged { "let mut this = Self {\n" } else { "let this = Self {\n" });
        for field in &self.part.fields {
            let value = match (field.tag, condition(field.versions, self.part.versions)) {
                (Some(_), _) | (None, Condition::Never) => default_expression(field),
                (None, Condition::Always) => self.read_field(field),
                (None, Condition::When { yes, .. }) => {
                    format!(
                        "if {yes} {{ {} }} else {{ {} }}",
                        self.read_field(field),
                        default_expression(field)
                    )
                }
            };
            line(out, format_args!("{}: {value},", names::field(&field.name)));
        }
        out.push_str("};\n");
        match self.flexible() {
            Condition::Always => self.read_tagged(out),
            Condition::Never => {}
            Condition::When { yes, .. } => {
                let _ = writeln!(out, "if {yes} {{");
                self.read_tagged(out);
                out.push_str("}\n");
            }
        }
        out.push_str("Ok(this)\n");
    }

    fn read_tagged(&self, out: &mut String) {
        let name = &self.part.name;
        if self.tagged().next().is_none() {
            line(out, format_args!("input.skip_tagged_fields(\"{name}\")?;"));
            return;
        }
        line(out, format_args!("input.get_tagged_fields(\"{name}\", |tag, input| {{\nmatch tag {{"));
        for field in self.tagged() {
            let guard = match condition(field.versions, self.part.versions.intersect(self.message.flexible)) {
                Condition::When { yes, .. } => format!(" if {yes}"),
                _ => String::new(),
            };
            line(
                out,
                format_args!(
                    "{}{guard} => this.{} = {},",
                    field.tag.unwrap_or_default(),
                    names::field(&field.name),
                    self.read_field(field)
                ),
            );
        }
        out.push_str("_ => return Ok(false),\n}\nOk(true)\n})?;\n");
    }

    fn read_field(&self, field: &Field) -> String {
        let label = self.label(field);
        let flexible = self.flexible().expression();
        let optional = is_optional(field);
        let nullable = condition(field.nullable, self.part.versions.intersect(field.versions)).expression();
        let (prefix, nullable) = match optional {
            true => ("nullable_", format!("{nullable}, ")),
            false => ("", String::new()),
        };
        match &field.of {
            Type::String => format!("input.get_{prefix}string({flexible}, {nullable}{label})?"),
            Type::Bytes | Type::Records => format!("input.get_{prefix}bytes({flexible}, {nullable}{label})?"),
            Type::Array(_) => format!("input.get_{prefix}array(version, {flexible}, {nullable}{label})?"),
            Type::Struct(name) if optional => format!(
                "if input.get_presence({label})? {{\nSome({name}::read(version, {flexible}, {label}, input)?)\n}} else {{\nNone\n}}"
            ),
            Type::Struct(name) => format!("{name}::read(version, {flexible}, {label}, input)?"),
            simple => format!("input.get_{}({label})?", simple_name(simple)),
        }
    }

    fn label(&self, field: &Field) -> String {
        format!("\"{}.{}\"", self.part.name, names::field(&field.name).trim_start_matches("r#"))
    }

    fn tagged(&self) -> impl Iterator<Item = &Field> {
        self.part.fields.iter().filter(|field| field.tag.is_some())
    }

    fn flexible(&self) -> Condition {
        match condition(self.message.flexible, self.message.versions) {
            Condition::When { .. } => Condition::When { yes: "flexible".into(), no: "!flexible".into() },
            constant => constant,
        }
    }
}
