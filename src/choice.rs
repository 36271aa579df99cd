//! Enumerations of the C interface. One table for each has the numbers of its variants in the
//! header, the words by which an error tells which numbers there are, and the word of each variant
//! in a checkpoint.
#![forbid(unsafe_code)]

/// Declares an enumeration of the C interface: for each variant its number and, where checkpoints
/// name it, its word. Numbers and words are never changed.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        pub enum $name:ident: $expected:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $number:literal $(, $word:literal)?;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Returns the variant of a number that the host gives as `name`.
            pub fn of(name: &'static str, value: u32) -> Result<$name, $crate::error::Error> {
                match value {
                    $($number => Ok($name::$variant),)*
                    _ => {
                        let expected = $expected;
                        Err($crate::error::Error::Constant { name, value, expected })
                    }
                }
            }

            /// Returns the number of its constant in the header.
            pub const fn number(self) -> u32 {
                match self {
                    $($name::$variant => $number,)*
                }
            }
        }

        $crate::choice::words!($name $($variant $($word)?;)*);
    };
}

/// Gives an enumeration its words, if it has any.
macro_rules! words {
    ($name:ident $($variant:ident;)*) => {};
    ($name:ident $($variant:ident $word:literal;)*) => {
        impl $name {
            /// Returns the word that checkpoints have for it.
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
    };
}

pub(crate) use {choice, words};
